//! `twin snapshot` beside libvirt's own ways, over used memory, hosts, baselines kept and write load: how long the hosts
//! stand still, all of it, and what is written. Prints a table of ratios and keeps all samples in
//! `target/bench/snapshot.json`.

#[expect(dead_code, reason = "each bench uses a part of the rig")]
mod rig;

use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rig::figures::number as small;
use rig::{BASE, Cell, Figures, LARGE, Lab, STATE, WRITING, field, number, timed};

const PAUSE: &str = "snapshot: set pause";

const WALL: &str = "snapshot: all of it";
const AFTER_RESTORE: &str = "snapshot: pause, deep";

/// Baselines one after the other, each taken after the last one was restored.
const GENERATIONS: u32 = 10;

/// How long five hosts may stand still, in milliseconds, and how many times as long with eight times the memory in use.
const MOST_PAUSE: u64 = 150;
const MOST_GROWTH: f64 = 1.5;

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

/// Bytes of the pages in which two files of memory differ: what the guest changed between the two.
fn changed(old: &Path, new: &Path) -> u64 {
    const PAGE: usize = 4096;
    const BLOCK: usize = 256 * PAGE;
    let open = |file: &Path| std::fs::File::open(file).expect("a memory file");
    let (old, new) = (open(old), open(new));
    let length = new.metadata().expect("its length").len();
    let (mut before, mut after) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut pages = 0u64;
    for at in (0..length).step_by(BLOCK) {
        let size = usize::try_from(length - at).map_or(BLOCK, |left| left.min(BLOCK));
        for (file, block) in [(&old, &mut before), (&new, &mut after)] {
            file.read_exact_at(&mut block[..size], at).expect("read");
        }
        let both = before[..size].chunks(PAGE).zip(after[..size].chunks(PAGE));
        pages += both.filter(|(before, after)| before != after).count() as u64;
    }
    pages * PAGE as u64
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
        .map(|host| changed(&ram("b0", host), &ram("b1", host)))
        .sum();
    let what = format!(
        "{}: KiB written to the pool's device for {} KiB of memory that changed ({} KiB of disks' states)",
        cell.name(),
        dirty >> 10,
        field(&took, "bytes_written") >> 10,
    );
    let allowed = dirty * 12 / 10 + (cell.hosts << 20);
    // Guests that write all the time have written pages several times over by then.
    figures.hold(
        &what,
        small(written >> 10),
        small(allowed >> 10),
        cell.dirty == 0,
    );
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
    for cell in [BASE, WRITING] {
        figures.hold_median(&cell, PAUSE, MOST_PAUSE, true);
        figures.hold_median(&cell, AFTER_RESTORE, MOST_PAUSE, true);
    }
    figures.hold_growth(&BASE, &LARGE, PAUSE, MOST_GROWTH);
    figures.finish("snapshot");
}
