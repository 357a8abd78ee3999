//! The price of memory in a file: the same five hosts with `ram: file` and with `ram: anon`, in turns. How long until they
//! are up, and how fast a guest writes to its memory, a byte in each page: for the first time, again, and after a baseline,
//! which shares the file's blocks; at rest, and while the four others write 20 MiB a second each.
//!
//! `BENCH_ROUNDS` (3) says how often each is measured.

#[expect(dead_code, reason = "each bench uses a part of the rig")]
mod rig;

use std::time::Instant;

use rig::{BASE, Cell, Figures, Lab, Millis, millis, number, until};

/// MiB that the guest writes to, page by page.
const MIB: u64 = 192;

const KINDS: [&str; 2] = ["file", "anon"];

/// One guest that writes to its memory at each word on its standard input.
struct Writer<'l> {
    lab: &'l Lab,
    said: usize,
}

impl<'l> Writer<'l> {
    /// Starts it; returns it with what a GiB of new memory takes.
    fn start(lab: &'l Lab) -> (Self, Millis) {
        let script = format!(
            "mkfifo /run/go; exec 3<>/run/go; setsid twin-guest dirty {MIB} lines <&3 >/run/said 2>&1 &"
        );
        lab.run(&["exec", "h0", "--", "sh", "-c", &script]);
        let mut writer = Self { lab, said: 0 };
        let new = writer.told();
        (writer, new)
    }

    /// Waits for its next word; returns the milliseconds that a GiB takes.
    fn told(&mut self) -> Millis {
        let mut rate = None;
        until("the guest has written", || {
            let said = self.lab.run(&["exec", "h0", "--", "cat", "/run/said"]);
            let line = said.lines().nth(self.said);
            rate = line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
            rate.is_some()
        });
        self.said += 1;
        1024 * 1000 / rate.unwrap_or(1).max(1)
    }

    fn again(&mut self) -> Millis {
        let go = "echo >/run/go";
        self.lab.run(&["exec", "h0", "--", "sh", "-c", go]);
        self.told()
    }
}

fn measure(figures: &mut Figures, cell: &Cell, kind: &'static str) {
    let from = Instant::now();
    let lab = Lab::bare(cell, kind);
    figures.add(cell, "up", kind, millis(from.elapsed()));
    let (mut writer, new) = Writer::start(&lab);
    figures.add(cell, "a GiB, new memory", kind, new);
    figures.add(cell, "a GiB, again", kind, writer.again());
    // By reflink where memory is in files, else as a stream.
    lab.run(&["snapshot", "first"]);
    figures.add(cell, "a GiB, after a baseline", kind, writer.again());
    for host in lab.hosts.iter().skip(1) {
        let load = "setsid twin-guest dirty 64 20 >/dev/null 2>&1 &";
        lab.run(&["exec", host, "--", "sh", "-c", load]);
    }
    figures.add(cell, "a GiB, under load", kind, writer.again());
    lab.run(&["snapshot", "second"]);
    figures.add(cell, "a GiB, both", kind, writer.again());
}

fn main() {
    let mut figures = Figures::beside("file");
    // Guests of 512 MiB, none of it in use but for what is written here.
    for _ in 0..number("BENCH_ROUNDS", 3) {
        for kind in KINDS {
            measure(&mut figures, &BASE, kind);
        }
    }
    figures.finish("ram");
}
