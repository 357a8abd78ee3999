//! The price of memory in a file: the same five hosts with `ram: file` and with `ram: anon`, in turns. How long until they
//! are up, and how fast a guest writes to its memory: for the first time, again, and after a baseline, which shares its
//! blocks; at rest, and while the four others write 20 MiB a second each.
//!
//! `BENCH_ROUNDS` (3) says how often each is measured.

#[expect(dead_code, reason = "each bench uses a part of the rig")]
mod rig;

use std::time::Instant;

use rig::{BASE, Cell, Figures, Lab, Millis, millis, number};

/// MiB that the guest writes to, page by page.
const MIB: u64 = 192;

const KINDS: [&str; 2] = ["file", "anon"];

/// Writes in one guest; returns the milliseconds that the first and the second time take for a GiB.
fn write(lab: &Lab) -> (Millis, Millis) {
    let said = lab.run(&[
        "exec",
        "h0",
        "--",
        "twin-guest",
        "dirty",
        &MIB.to_string(),
        "once",
    ]);
    let rate = |word: &str| {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix(word))
            .expect("a rate");
        let rate: u64 = line
            .trim()
            .trim_end_matches(" MiB/s")
            .parse()
            .expect("a number");
        1024 * 1000 / rate.max(1)
    };
    (rate("first"), rate("again"))
}

fn measure(figures: &mut Figures, cell: &Cell, kind: &'static str) {
    let from = Instant::now();
    let lab = Lab::bare(cell, kind);
    figures.add(cell, "up", kind, millis(from.elapsed()));
    let (new, again) = write(&lab);
    figures.add(cell, "a GiB, new memory", kind, new);
    figures.add(cell, "a GiB, again", kind, again);
    if kind == "file" {
        lab.run(&["snapshot", "shared"]);
        figures.add(cell, "a GiB, after a baseline", kind, write(&lab).0);
    }
    for host in lab.hosts.iter().skip(1) {
        let load = "setsid twin-guest dirty 64 20 >/dev/null 2>&1 &";
        lab.run(&["exec", host, "--", "sh", "-c", load]);
    }
    let (first, again) = write(&lab);
    figures.add(cell, "a GiB, under load", kind, first);
    figures.add(cell, "a GiB, under load, again", kind, again);
}

fn main() {
    let mut figures = Figures::beside("file");
    // Guests of 512 MiB, none of it in use but for what is written here.
    for _ in 0..number("BENCH_ROUNDS", 3) {
        for kind in KINDS {
            measure(&mut figures, &BASE, kind);
        }
    }
    figures.print();
    figures.write("ram");
}
