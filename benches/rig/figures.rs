//! Series of samples: printed as a table of ratios, kept as JSON, handed to criterion.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use serde_json::{Value, json};

use super::{Cell, Millis};

/// Samples of one way in one cell.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    cell: Cell,
    /// What is measured: `restore: all running`.
    measure: &'static str,
    /// Whose way.
    way: &'static str,
    samples: Vec<Millis>,
}

/// All samples of a bench.
pub(crate) struct Figures {
    /// The way that the others are compared with.
    mine: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
    /// Bounds that do not hold.
    broken: Vec<String>,
}

/// The median; 0 of nothing.
fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds, KiB and MiB are small"
)]
pub(crate) fn number(small: u64) -> f64 {
    small as f64
}

pub(crate) fn ratio(mine: u64, theirs: u64) -> f64 {
    number(mine) / number(theirs.max(1))
}

impl Figures {
    /// No samples yet; `mine` is the way that the others are compared with.
    pub(crate) const fn beside(mine: &'static str) -> Self {
        Self {
            mine,
            rows: Vec::new(),
            notes: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Adds a sample.
    pub(crate) fn add(
        &mut self,
        cell: &Cell,
        measure: &'static str,
        way: &'static str,
        sample: Millis,
    ) {
        let row = self
            .rows
            .iter_mut()
            .find(|row| row.cell == *cell && row.measure == measure && row.way == way);
        match row {
            Some(row) => row.samples.push(sample),
            None => self.rows.push(Row {
                cell: *cell,
                measure,
                way,
                samples: vec![sample],
            }),
        }
    }

    /// Adds a line that the table ends with.
    pub(crate) fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Holds a figure against its bound; one that is not `hard` only prints.
    pub(crate) fn hold(&mut self, what: &str, figure: f64, most: f64, hard: bool) {
        let holds = figure <= most;
        let word = if holds { "holds" } else { "DOES NOT HOLD" };
        let line = format!("bound: {what}: {figure:.3}, at most {most}: {word}");
        if hard && !holds {
            self.broken.push(line.clone());
        }
        self.note(line);
    }

    /// Holds the median of this bench's own way against milliseconds.
    pub(crate) fn hold_median(&mut self, cell: &Cell, measure: &str, most: Millis, hard: bool) {
        if let Some(own) = self.median(cell, measure, self.mine) {
            let what = format!("{} {measure}, ms", cell.name());
            self.hold(&what, number(own), number(most), hard);
        }
    }

    /// Holds the ratio of this bench's own way to another's against a number.
    pub(crate) fn hold_ratio(&mut self, cell: &Cell, measure: &str, way: &str, most: f64) {
        let both = (
            self.median(cell, measure, self.mine),
            self.median(cell, measure, way),
        );
        if let (Some(own), Some(other)) = both {
            let what = format!("{} {measure}, of {way}", cell.name());
            self.hold(&what, ratio(own, other), most, true);
        }
    }

    /// Holds the growth of a median from one cell to another against a number.
    pub(crate) fn hold_growth(&mut self, from: &Cell, to: &Cell, measure: &str, most: f64) {
        let both = (
            self.median(from, measure, self.mine),
            self.median(to, measure, self.mine),
        );
        if let (Some(before), Some(after)) = both {
            let what = format!("{measure}, {} to {}", from.name(), to.name());
            self.hold(&what, ratio(after, before), most, true);
        }
    }

    /// The median of one way in one cell.
    fn median(&self, cell: &Cell, measure: &str, way: &str) -> Option<Millis> {
        let row = self
            .rows
            .iter()
            .find(|row| row.cell == *cell && row.measure == measure && row.way == way)?;
        Some(median(&row.samples))
    }

    /// Hands all to criterion, prints it, and keeps it in `target/bench/NAME.json`. Fails where a bound does not hold.
    pub(crate) fn finish(&self, name: &str) {
        self.hand_over(&mut Criterion::default());
        self.print();
        self.write(name);
        assert!(self.broken.is_empty(), "{:#?}", self.broken);
    }

    /// Prints medians, each with twin's ratio to it.
    fn print(&self) {
        println!(
            "\n{:<16} {:<24} {:<36} {:>8} {:>4} {:>8}",
            "cell",
            "measure",
            "way",
            "median",
            "n",
            format!("{} is", self.mine)
        );
        for row in &self.rows {
            let mine = self.median(&row.cell, row.measure, self.mine);
            let times = match mine {
                Some(mine) if row.way != self.mine => {
                    format!("{:.3}x", ratio(mine, median(&row.samples)))
                }
                _ => String::new(),
            };
            println!(
                "{:<16} {:<24} {:<36} {:>5} ms {:>4} {times:>8}",
                row.cell.name(),
                row.measure,
                row.way,
                median(&row.samples),
                row.samples.len()
            );
        }
        for note in &self.notes {
            println!("{note}");
        }
    }

    /// Keeps all samples in `target/bench/NAME.json`.
    fn write(&self, name: &str) {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "cell": row.cell.name(), "hosts": row.cell.hosts, "used_mib": row.cell.used, "kept": row.cell.kept,
                    "dirty_mib_a_second": row.cell.dirty, "measure": row.measure, "way": row.way,
                    "median_ms": median(&row.samples), "samples_ms": row.samples,
                })
            })
            .collect();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        std::fs::create_dir_all(&directory).expect("a directory");
        let document = json!({"schema": "twin/bench/v1", "rows": rows, "notes": self.notes});
        let text = serde_json::to_string_pretty(&document).expect("JSON");
        std::fs::write(directory.join(format!("{name}.json")), text).expect("a file");
    }

    /// Hands twin's samples to criterion, each once.
    fn hand_over(&self, criterion: &mut Criterion) {
        const LEAST: usize = 10;
        for row in &self.rows {
            if row.way != self.mine || row.samples.len() < LEAST {
                continue;
            }
            let mut group = criterion.benchmark_group(row.measure);
            group
                .sampling_mode(SamplingMode::Flat)
                .sample_size(row.samples.len());
            group.warm_up_time(Duration::from_millis(1));
            // So short that each sample is one iteration.
            group.measurement_time(Duration::from_millis(1));
            let mut samples = row.samples.iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(row.cell.name()), |bencher| {
                bencher.iter_custom(|times| {
                    let taken = samples
                        .by_ref()
                        .take(usize::try_from(times).unwrap_or(usize::MAX));
                    taken.map(|sample| Duration::from_millis(*sample)).sum()
                });
            });
            group.finish();
        }
    }

    /// Rows of a measure, for a picture: way, used MiB, median.
    pub(crate) fn over_used(&self, measure: &str) -> Vec<(&'static str, Vec<(u64, Millis)>)> {
        let mut lines: Vec<(&'static str, Vec<(u64, Millis)>)> = Vec::new();
        let base = super::BASE;
        for row in self.rows.iter().filter(|row| {
            row.measure == measure
                && Cell {
                    used: base.used,
                    ..row.cell
                } == base
        }) {
            let point = (row.cell.used, median(&row.samples));
            match lines.iter_mut().find(|(way, _)| *way == row.way) {
                Some((_, points)) => points.push(point),
                None => lines.push((row.way, vec![point])),
            }
        }
        lines
    }
}
