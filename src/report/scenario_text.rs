//! A scenario's result as people read it.

use std::fmt::Write as _;

use super::outcomes::{Cell, Outcomes, outcomes, seconds};
use crate::scenario::{Outcome, ProbeResult, RunResult, VariantResult, WorldResult};

/// What stand-in timers were divided by, in words.
pub(super) fn time_scale(document: &RunResult) -> String {
    let scale = document.time_scale;
    scale.map_or_else(String::new, |scale| {
        format!(", stand-in timers divided by {scale}")
    })
}

/// Writes a result. Lines are at most some 120 characters; evidence is quoted whole.
pub fn scenario_text(document: &RunResult) -> String {
    let mut text = format!(
        "{} -- {}\nrun {}, seed {}{}\n",
        document.scenario,
        document.title,
        document.run,
        document.seed,
        time_scale(document)
    );
    for world in &document.worlds {
        outcomes_text(&mut text, world);
        for variant in &world.variants {
            variant_text(&mut text, &world.world, variant);
        }
    }
    if !document.stand_ins.is_empty() {
        // Writing to a String does not fail; the same goes for all below.
        let _ = writeln!(text, "\nstand-ins");
        for line in &document.stand_ins {
            let _ = writeln!(text, "  {line}");
        }
    }
    for left in &document.left {
        let _ = writeln!(text, "LEFT  {left}");
    }
    if !document.left.is_empty() {
        let _ = writeln!(
            text,
            "DIRTY: new runs are refused. See to what keeps each from being put back, then `twin recover`"
        );
    }
    for kept in &document.kept {
        let _ = writeln!(text, "KEPT  {kept}: in place, as --keep asked");
    }
    if !document.kept.is_empty() {
        let _ = writeln!(
            text,
            "twin does not put it back by itself, and new runs are refused: `twin recover` ends it"
        );
    }
    if let Some(baseline) = &document.baseline {
        let _ = writeln!(
            text,
            "baseline {baseline} is kept: `twin restore {baseline}` goes back to before the run"
        );
    }
    let _ = writeln!(
        text,
        "\nverdict: {}  ({})",
        document.verdict.as_str(),
        seconds(document.took_ms)
    );
    text
}

/// The variants beside one another, a column each.
fn outcomes_text(text: &mut String, world: &WorldResult) {
    let Some(Outcomes { variants, lines }) = outcomes(world) else {
        return;
    };
    let words = |cell: &Cell| {
        let mark = if cell.right == Some(false) { " !" } else { "" };
        format!("{}{mark}", cell.words)
    };
    let _ = writeln!(
        text,
        "\nwhen each probe fired in {}, since the variant began; ! was not expected",
        world.world
    );
    let first = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|(_, cells)| cells.get(column));
        let cells = cells.map(|cell| words(cell).len());
        cells.chain([variants[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..variants.len()).map(width).collect();
    let mut line = |name: &str, cells: &[String]| {
        let cells = cells.iter().zip(&widths);
        let cells: String = cells
            .map(|(cell, width)| format!("  {cell:<width$}"))
            .collect();
        let _ = writeln!(text, "  {name:<first$}{}", cells.trim_end());
    };
    let heads: Vec<String> = variants.iter().map(|&name| name.to_owned()).collect();
    line("", &heads);
    for (name, cells) in &lines {
        line(name, &cells.iter().map(words).collect::<Vec<_>>());
    }
}

/// How often a probe looked that looks all the time, and what it saw when.
pub(super) fn looks(probe: &ProbeResult) -> String {
    if probe.looks == 0 {
        return String::new();
    }
    let changes: Vec<String> = probe
        .changes
        .iter()
        .map(|change| format!("{} from {}", change.state, seconds(change.at_ms)))
        .collect();
    format!(
        ", {} of {} looks missed, {} in a row at most ({})",
        probe.missed,
        probe.looks,
        probe.missed_in_row,
        changes.join(", ")
    )
}

fn variant_text(text: &mut String, world: &str, variant: &VariantResult) {
    let outcome = match variant.outcome {
        Outcome::AsExpected => "as expected",
        Outcome::Unexpected => "UNEXPECTED",
        Outcome::Inconclusive => "INCONCLUSIVE",
    };
    let _ = writeln!(
        text,
        "\n{} in {world}: {outcome}  ({})",
        variant.name,
        seconds(variant.took_ms)
    );
    for why in &variant.why {
        let _ = writeln!(text, "  why: {why}");
    }
    for target in &variant.targets {
        let _ = writeln!(
            text,
            "  acts on {}: domain {}, {}",
            target.host, target.domain, target.uuid
        );
    }
    for step in &variant.steps {
        let _ = writeln!(
            text,
            "  {:<28} {:<10} {:>8}  {}",
            step.id,
            step.result,
            seconds(step.took_ms),
            step.detail
        );
    }
    for probe in &variant.probes {
        let expected = probe
            .expected
            .as_ref()
            .map_or_else(String::new, |expected| format!(" (expected: {expected})"));
        let _ = writeln!(
            text,
            "  probe {}: {}{}{expected}",
            probe.id,
            probe.result,
            looks(probe)
        );
        for evidence in &probe.evidence {
            let _ = writeln!(text, "    {}\n      {}", evidence.source, evidence.text);
        }
    }
    if let Some(mttr) = variant.mttr_ms {
        let _ = writeln!(text, "  recovered in {}", seconds(mttr));
    }
}
