//! `twin snapshot` beside libvirt's own ways, over used memory, hosts, baselines kept and write load: how long the hosts
//! stand still, all of it, and what is written. Prints a table of ratios and keeps all samples in
//! `target/bench/snapshot.json`.

#[expect(dead_code, reason = "each bench uses a part of the rig")]
mod rig;

use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rig::{BASE, Cell, Figures, Lab, STATE, field, number, timed};

const PAUSE: &str = "snapshot: set pause";

const WALL: &str = "snapshot: all of it";
const AFTER_RESTORE: &str = "snapshot: pause, deep";

/// Baselines one after the other, each taken after the last one was restored.
const GENERATIONS: u32 = 10;

/// MiB that each guest rewrites for the figure of what is written.
const REWRITTEN: &str = "32";

/// What libvirt offers, once each.
fn peers(figures: &mut Figures, cell: &Cell, lab: &Lab) {
    let file = |host: &str| lab.directory.join(host).display().to_string();
    let saved = timed(|| lab.virsh(|host| vec!["save".into(), lab.domain(host), file(host)]));
    figures.add(cell, PAUSE, "virsh save, parallel", saved);
    lab.virsh(|host| vec!["restore".into(), file(host)]);
    lab.answer();
    if *cell != BASE {
        return;
    }
    let words = |verb: &str, host: &str| {
        [verb, &lab.domain(host), "peer"]
            .map(str::to_owned)
            .to_vec()
    };
    let create = |host: &str| words("snapshot-create-as", host);
    let delete = |host: &str| words("snapshot-delete", host);
    let took = timed(|| lab.virsh_in_turn(create));
    figures.add(cell, WALL, "virsh snapshot-create-as, in turn", took);
    lab.virsh(delete);
    let took = timed(|| lab.virsh(create));
    figures.add(cell, WALL, "virsh snapshot-create-as, parallel", took);
    lab.virsh(delete);
    // The only one of these that is one cut.
    let took = timed(|| {
        lab.virsh_all("suspend");
        lab.virsh_in_turn(create);
        lab.virsh_all("resume");
    });
    figures.add(cell, PAUSE, "virsh suspend all, create, resume all", took);
    lab.virsh(delete);
}

/// Sectors that were written to the block device that the pool is on.
fn written_bytes() -> u64 {
    const SECTOR: u64 = 512;
    let device = std::fs::metadata(Path::new(STATE).join("pool"))
        .expect("a pool")
        .st_dev();
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))
        .expect("a block device");
    let sectors: u64 = stat
        .split_whitespace()
        .nth(6)
        .and_then(|word| word.parse().ok())
        .expect("sectors");
    sectors * SECTOR
}

/// Where a file's blocks are.
fn blocks(file: &Path) -> Vec<(u64, u64)> {
    let extents = fiemap::fiemap(file).expect("fiemap");
    let mut blocks: Vec<(u64, u64)> = extents
        .map(|extent| extent.expect("an extent"))
        .map(|extent| (extent.fe_physical, extent.fe_physical + extent.fe_length))
        .collect();
    blocks.sort_unstable();
    blocks
}

/// Bytes of `new` that are not blocks of `old` too: memory that was written between the two.
fn diverged(old: &Path, new: &Path) -> u64 {
    let old = blocks(old);
    let mut bytes = 0;
    for (from, to) in blocks(new) {
        let first = old.partition_point(|(_, end)| *end <= from);
        let shared: u64 = old[first..]
            .iter()
            .take_while(|(start, _)| *start < to)
            .map(|(start, end)| (*end).min(to) - (*start).max(from))
            .sum();
        bytes += to - from - shared;
    }
    bytes
}

/// What one more baseline writes, beside what was dirty.
fn bytes(figures: &mut Figures, cell: &Cell, lab: &Lab) {
    let ram = |baseline: &str, host: &str| -> PathBuf {
        lab.home()
            .join("baselines")
            .join(baseline)
            .join(format!("{host}.ram"))
    };
    lab.run(&["snapshot", "b0"]);
    let before = written_bytes();
    let file = format!("of=/run/rewritten bs=1M count={REWRITTEN} conv=notrunc");
    let write = format!("dd if=/dev/urandom {file} 2>/dev/null");
    lab.run(&["exec", "--all", "--", "sh", "-c", &write]);
    let took = lab.json(&["snapshot", "b1"]);
    let written = written_bytes() - before;
    let dirty: u64 = lab
        .hosts
        .iter()
        .map(|host| diverged(&ram("b0", host), &ram("b1", host)))
        .sum();
    let allowed = dirty * 12 / 10 + (cell.hosts << 20);
    figures.note(format!(
        "{}: {} KiB written to the pool's device for {} KiB of dirty memory ({} KiB of disks' states): {} of 1.2 times and 1 MiB a host",
        cell.name(),
        written >> 10,
        dirty >> 10,
        field(&took, "bytes_written") >> 10,
        if written <= allowed { "within" } else { "OVER the bound" },
    ));
    for name in ["b0", "b1"] {
        lab.run(&["snapshot", name, "--remove"]);
    }
}

/// Baselines of baselines, each taken after the one before was restored.
fn generations(figures: &mut Figures, cell: &Cell, lab: &Lab) {
    for generation in 0..GENERATIONS {
        let name = format!("g{generation}");
        let taken = lab.json(&["snapshot", &name]);
        figures.add(cell, AFTER_RESTORE, "twin", field(&taken, "set_pause_ms"));
        lab.run(&["restore", &name]);
    }
}

fn measure(figures: &mut Figures, cell: &Cell) {
    let (rounds, turns) = (number("BENCH_ROUNDS", 10), number("BENCH_PEERS", 3));
    let lab = Lab::new(cell);
    for number in 1..cell.kept {
        lab.run(&["snapshot", &format!("k{number}")]);
    }
    // The first one writes all memory to the disk.
    lab.run(&["snapshot", "first"]);
    for round in 0..rounds {
        let name = format!("r{round}");
        let taken = lab.json(&["snapshot", &name]);
        figures.add(cell, PAUSE, "twin", field(&taken, "set_pause_ms"));
        figures.add(cell, WALL, "twin", field(&taken, "wall_ms"));
        lab.run(&["snapshot", &name, "--remove"]);
        if cell.kept == 1 && cell.dirty == 0 && round < turns {
            peers(figures, cell, &lab);
            lab.run(&["restore", "first"]);
        }
    }
    if cell.kept == 1 && cell.used == BASE.used && cell.hosts == BASE.hosts {
        generations(figures, cell, &lab);
        bytes(figures, cell, &lab);
    }
}

fn main() {
    let mut figures = Figures::beside("twin");
    for cell in Cell::all().iter().filter(|cell| !cell.is_too_large()) {
        measure(&mut figures, cell);
    }
    figures.finish("snapshot");
}
