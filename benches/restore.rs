//! `twin restore` beside libvirt's own ways back, over used memory, hosts, baselines kept and write load: until all hosts run
//! and until all answer, the end of the old guests counted for all. Prints a table of ratios, keeps all samples in
//! `target/bench/restore.json`, and draws how the figures grow with memory in `target/bench/growth.svg`.

#[expect(dead_code, reason = "each bench uses a part of the rig")]
mod rig;

use std::path::Path;
use std::time::Instant;

use plotters::prelude::*;
use rig::{BASE, Cell, Figures, LARGE, Lab, Millis, field, millis, number, timed, until};

const RUNNING: &str = "restore: all running";
const ANSWERING: &str = "restore: all answering";

/// The way that twin's is held against.
const PARALLEL: &str = "virsh destroy, restore, parallel";

/// Adds one restore of a peer: `act` brings all hosts back, which is waited for.
fn peer(figures: &mut Figures, cell: &Cell, lab: &Lab, way: &'static str, act: impl FnOnce()) {
    let from = Instant::now();
    act();
    until("all hosts run", || lab.all_run());
    figures.add(cell, RUNNING, way, millis(from.elapsed()));
    lab.answer();
    figures.add(cell, ANSWERING, way, millis(from.elapsed()));
}

/// A disk of each host as it is now, sharing blocks with the live one.
fn copy_disks(lab: &Lab, home: &Path, back: bool) {
    for host in &lab.hosts {
        let live = home.join(host).join("disk0.qcow2");
        let kept = home.join(host).join("disk0.copy");
        let (from, to) = if back { (&kept, &live) } else { (&live, &kept) };
        let mut copy = std::process::Command::new("cp");
        copy.arg("--reflink=always").arg(from).arg(to);
        assert!(copy.status().expect("cp runs").success(), "cp --reflink");
    }
}

/// What libvirt offers, once each.
fn peers(figures: &mut Figures, cell: &Cell, lab: &Lab, home: &Path) {
    peer(figures, cell, lab, PARALLEL, || {
        lab.virsh_all("destroy");
        lab.virsh(|host| {
            vec![
                "restore".into(),
                lab.directory.join(host).display().to_string(),
            ]
        });
    });
    if *cell != BASE {
        return;
    }
    let revert = |host: &str| {
        let words = ["snapshot-revert", &lab.domain(host), "peer"];
        words.map(str::to_owned).to_vec()
    };
    peer(
        figures,
        cell,
        lab,
        "virsh snapshot-revert, parallel",
        || lab.virsh(revert),
    );
    peer(figures, cell, lab, "virsh snapshot-revert, in turn", || {
        lab.virsh_in_turn(revert);
    });
    peer(figures, cell, lab, "destroy, cp --reflink, boot", || {
        lab.virsh_all("destroy");
        copy_disks(lab, home, true);
        lab.virsh_all("start");
    });
}

fn measure(figures: &mut Figures, cell: &Cell) {
    let (rounds, turns) = (number("BENCH_ROUNDS", 10), number("BENCH_PEERS", 3));
    let lab = Lab::new(cell);
    let home = lab.home();
    for number in 0..cell.kept {
        lab.run(&["snapshot", &format!("k{number}")]);
    }
    let last = format!("k{}", cell.kept - 1);
    let with_peers = cell.kept == 1 && cell.dirty == 0;
    if with_peers {
        if *cell == BASE {
            lab.virsh(|host| {
                let words = ["snapshot-create-as", &lab.domain(host), "peer"];
                words.map(str::to_owned).to_vec()
            });
            lab.virsh_all("suspend");
            copy_disks(&lab, &home, false);
            lab.virsh_all("resume");
        }
        let saved = timed(|| {
            lab.virsh(|host| {
                let file = lab.directory.join(host).display().to_string();
                vec!["save".into(), lab.domain(host), file]
            });
        });
        figures.note(format!(
            "{}: parallel virsh save of it took {saved} ms",
            cell.name()
        ));
        lab.virsh(|host| {
            vec![
                "restore".into(),
                lab.directory.join(host).display().to_string(),
            ]
        });
        lab.answer();
    }
    // The processes are new ones by now.
    lab.run(&["restore", &last]);
    for round in 0..rounds {
        let restored = lab.json(&["restore", &last]);
        figures.add(cell, RUNNING, "twin", field(&restored, "running_ms"));
        figures.add(cell, ANSWERING, "twin", field(&restored, "ready_ms"));
        if with_peers && round < turns {
            peers(figures, cell, &lab, &home);
            lab.run(&["restore", &last]);
        }
    }
}

/// Draws medians over used memory, both axes logarithmic.
fn draw(figures: &Figures, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const COLOURS: [RGBColor; 4] = [
        RGBColor(0, 114, 178),
        RGBColor(213, 94, 0),
        RGBColor(86, 180, 233),
        RGBColor(230, 159, 0),
    ];
    let mut lines: Vec<(String, Vec<(u64, Millis)>)> = Vec::new();
    for (measure, what) in [(RUNNING, "running"), (ANSWERING, "answering")] {
        for (way, points) in figures.over_used(measure) {
            if points.len() > 1 {
                lines.push((format!("{way}: all {what}"), points));
            }
        }
    }
    let all = || lines.iter().flat_map(|(_, points)| points);
    let (Some(top), Some(bottom)) = (
        all().map(|(_, time)| *time).max(),
        all().map(|(_, time)| *time).min(),
    ) else {
        return Ok(());
    };
    let (Some(first), Some(last)) = (
        all().map(|(used, _)| *used).min(),
        all().map(|(used, _)| *used).max(),
    ) else {
        return Ok(());
    };
    let area = SVGBackend::new(file, (760, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Five hosts back at a baseline", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (first..last + 1).log_scale(),
            (bottom / 2..top * 2).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("MiB in use in each guest")
        .y_desc("milliseconds (median)")
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(name.as_str())
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(
            points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

fn main() {
    let mut figures = Figures::beside("twin");
    for cell in Cell::all().iter().filter(|cell| !cell.is_too_large()) {
        measure(&mut figures, cell);
    }
    // Where the machine is noisy the ratios decide.
    figures.hold_median(&BASE, RUNNING, 250, false);
    figures.hold_median(&BASE, ANSWERING, 600, false);
    figures.hold_ratio(&BASE, RUNNING, PARALLEL, 0.1);
    figures.hold_ratio(&BASE, ANSWERING, PARALLEL, 0.25);
    figures.hold_growth(&BASE, &LARGE, RUNNING, 1.5);
    figures.hold_ratio(&LARGE, RUNNING, PARALLEL, 0.03);
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/growth.svg");
    std::fs::create_dir_all(picture.parent().expect("a directory")).expect("made");
    draw(&figures, &picture).expect("a picture");
    figures.finish("restore");
}
