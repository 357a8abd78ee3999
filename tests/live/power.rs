//! The power goes: every write to the machine's disk is written down, in its order, and what there is after some of them is what a
//! machine finds that boots then.
//!
//! ```text
//!  twin, libvirtd, QEMU ── XFS ── loop ── FUSE ── qemu-storage-daemon ──┬── the disk
//!  (namespaces of their own)                     (blklogwrites)         └── the log of its writes
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::machine::{Loop, Machine, blank_disk, on_the_pool, plain_machine};
use crate::support::{full, state, text, tool, wait_for};

/// Sectors of the log, and of the disk.
const SECTOR: u64 = 512;

/// Flags of an entry.
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// The machine's disk.
const DISK_GIB: u64 = 16;

/// Of one kind, and how many of them are restored.
fn cuts_of_a_kind() -> usize {
    if full() { 20 } else { 3 }
}

/// One write of the log.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it is in the log.
    at: u64,
    sector: u64,
    sectors: u64,
    flags: u64,
}

impl Entry {
    fn has_data(&self) -> bool {
        self.flags & DISCARD == 0
    }
}

/// Reads the log's entries, in their order.
fn entries(log: &Path) -> Vec<Entry> {
    let mut file = File::open(log).unwrap();
    let end = file.metadata().unwrap().len();
    let mut found = Vec::new();
    let mut at = SECTOR;
    while at + SECTOR <= end {
        let mut head = [0; 32];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut head).unwrap();
        let word = |index: usize| u64::from_le_bytes(head[index * 8..][..8].try_into().unwrap());
        let entry = Entry {
            at,
            sector: word(0),
            sectors: word(1),
            flags: word(2),
        };
        at += SECTOR;
        if entry.has_data() {
            at += entry.sectors * SECTOR;
        }
        found.push(entry);
    }
    found
}

/// Carries a write out on a disk.
fn carry_out(entry: &Entry, log: &File, disk: &File) {
    if entry.flags & DISCARD != 0 || entry.sectors == 0 {
        return;
    }
    let mut data = vec![0; usize::try_from(entry.sectors * SECTOR).unwrap()];
    log.read_exact_at(&mut data, entry.at + SECTOR).unwrap();
    disk.write_all_at(&data, entry.sector * SECTOR).unwrap();
}

/// A disk whose writes are written down.
struct LoggedDisk {
    device: Option<Loop>,
    daemon: Child,
    log: PathBuf,
}

impl LoggedDisk {
    fn new(directory: &Path, disk: &Path) -> Self {
        let (log, export) = (directory.join("log"), directory.join("export"));
        for file in [&log, &export] {
            File::create(file).unwrap();
        }
        let option = |kind: &str, rest: &str| [kind.to_owned(), rest.to_owned()];
        let (file, export_file) = (disk.display(), export.display());
        let daemon = Command::new("qemu-storage-daemon")
            .args(option(
                "--blockdev",
                &format!("driver=file,node-name=disk,filename={file}"),
            ))
            .args(option(
                "--blockdev",
                &format!("driver=file,node-name=log,filename={}", log.display()),
            ))
            .args(option(
                "--blockdev",
                "driver=blklogwrites,node-name=logged,file=disk,log=log",
            ))
            .args(option(
                "--export",
                &format!("type=fuse,id=out,node-name=logged,mountpoint={export_file},writable=on"),
            ))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let size = disk.metadata().unwrap().len();
        wait_for("the disk is exported", Duration::from_secs(20), || {
            (export.metadata().ok()?.len() == size).then_some(())
        });
        Self {
            device: Some(Loop::on(&export)),
            daemon,
            log,
        }
    }

    fn device(&self) -> &str {
        &self.device.as_ref().unwrap().0
    }

    /// Bytes of the log so far.
    fn written(&self) -> u64 {
        self.log.metadata().unwrap().len()
    }

    /// Flushes so far. The last entry may be half written.
    fn flushes(&self) -> usize {
        let entries = entries(&self.log);
        entries
            .iter()
            .filter(|entry| entry.flags & FLUSH != 0)
            .count()
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        self.device.take();
        let _ = Command::new("kill")
            .arg(self.daemon.id().to_string())
            .output();
        let _ = self.daemon.wait();
    }
}

const LAB: &str = "power";

fn baselines(machine: &Machine) -> BTreeSet<String> {
    let listed = machine.json(&["--lab", LAB, "snapshots"]);
    let baselines = listed["baselines"].as_array().unwrap().iter();
    baselines
        .map(|baseline| baseline["name"].as_str().unwrap().to_owned())
        .collect()
}

/// What was asked for, and where the log was then.
struct Asked {
    verb: &'static [&'static str],
    /// Baselines before it, and after it.
    before: BTreeSet<String>,
    after: BTreeSet<String>,
    from: u64,
    /// Where the log was when twin said that it was done.
    told: u64,
    to: u64,
}

/// The disk after part of the log.
struct Cut {
    /// The last write that may have reached it.
    last: usize,
    /// The flush from which on a disk may lose any write, where this one does.
    lossy_from: Option<usize>,
}

/// A row of numbers that looks random and is the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

/// Chooses the moments of a verb at which the power goes, in their order: after flushes, spread evenly, and after random writes.
/// After half of those the disk has lost half of what came since its last flush.
fn cuts(entries: &[Entry], asked: &Asked, numbers: &mut Numbers) -> Vec<Cut> {
    let within: Vec<usize> = (0..entries.len())
        .filter(|index| (asked.from..asked.to).contains(&entries[*index].at))
        .collect();
    let is_flush = |index: &usize| entries[*index].flags & FLUSH != 0;
    let flushes: Vec<usize> = within.iter().copied().filter(is_flush).collect();
    assert!(!flushes.is_empty() && within.len() > flushes.len());
    let number = cuts_of_a_kind();
    let mut cuts: Vec<Cut> = (0..number.min(flushes.len()))
        .map(|index| Cut {
            last: flushes[index * flushes.len() / number.min(flushes.len())],
            lossy_from: None,
        })
        .collect();
    for index in 0..number {
        let last = within[numbers.next(within.len())];
        let flush = (0..last).rev().find(|index| is_flush(index));
        cuts.push(Cut {
            last,
            lossy_from: flush.filter(|_| index % 2 == 1),
        });
    }
    // In the order in which the disk without losses is written.
    cuts.sort_by_key(|cut| cut.lossy_from.unwrap_or(cut.last));
    cuts
}

/// The disk as it was at moments one after the other.
struct Replay<'r> {
    entries: &'r [Entry],
    log: File,
    disk: PathBuf,
    done: usize,
}

impl Replay<'_> {
    /// Writes up to `last`, which comes after what was written before.
    fn to(&mut self, last: usize) {
        let disk = File::options().write(true).open(&self.disk).unwrap();
        for entry in self.entries.get(self.done..=last).unwrap_or_default() {
            carry_out(entry, &self.log, &disk);
        }
        self.done = self.done.max(last + 1);
    }

    /// Makes a disk of its own of what a machine finds after a cut.
    fn cut(&mut self, cut: &Cut, file: &Path, numbers: &mut Numbers) {
        self.to(cut.lossy_from.unwrap_or(cut.last));
        let (from, to) = (self.disk.display().to_string(), file.display().to_string());
        tool("cp", &["--reflink=always", &from, &to]);
        if cut.lossy_from.is_some() {
            let disk = File::options().write(true).open(file).unwrap();
            for entry in &self.entries[self.done..=cut.last] {
                if numbers.next(2) == 0 {
                    carry_out(entry, &self.log, &disk);
                }
            }
        }
    }
}

/// How many states of baselines a host's disk holds.
fn states_in(machine: &Machine, file: &str) -> usize {
    let listed = machine
        .command(&["qemu-img", "snapshot", "-U", "-l", file])
        .output()
        .unwrap();
    let listed = text(&listed.stdout);
    listed
        .split_whitespace()
        .filter(|word| word.starts_with("twin-"))
        .count()
}

/// What has to hold after a power loss.
fn holds(machine: &Machine, asked: &Asked, has_effect: bool, restores: bool, what: &str) {
    let there = baselines(machine);
    let lab = |words: &[&str]| {
        let mut all = vec!["--lab", LAB];
        all.extend(words);
        machine.done(what, &all)
    };
    let kept: BTreeSet<_> = asked.before.intersection(&asked.after).cloned().collect();
    assert!(there.is_superset(&kept), "{what}: {there:?} of {kept:?}");
    let uuid = machine.json(&["--lab", LAB, "status"])["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let directory = state().join("pool/labs").join(&uuid);
    let check = format!(
        "for d in {}/[ab]/disk0.qcow2; do qemu-img check $d; done",
        directory.display()
    );
    let checked = machine.command(&["sh", "-c", &check]).output().unwrap();
    let wrong = text(&checked.stderr);
    let said = lab(&["recover"]);
    if said.contains("mended") {
        let first: Vec<&str> = wrong.lines().take(3).collect();
        println!(
            "mended: {} of {} lines of qemu-img check: {first:?}",
            first.len(),
            wrong.lines().count()
        );
    }
    let there = baselines(machine);
    if has_effect {
        assert_eq!(there, asked.after, "{what}");
    } else {
        assert!(
            there == asked.before || there == asked.after,
            "{what}: {there:?}"
        );
    }
    for name in &there {
        lab(&["snapshot", name, "--verify"]);
    }
    if asked.verb[0] == "up" {
        let up = [
            "--lab", "other", "up", "tiny", "--scale", "8", "--wait", "none",
        ];
        if has_effect {
            let other = machine.json(&["--lab", "other", "status"]);
            assert_eq!(
                other["hosts"].as_array().unwrap().len(),
                2,
                "{what}: {other}"
            );
            let mut dry = up.to_vec();
            dry.push("--dry-run");
            let plan = machine.done(what, &dry);
            assert!(!plan.contains("make disk"), "{what}: {plan}");
        }
        // What was half made is made, or made anew.
        machine.done(what, &up);
    }
    // Nothing else is left.
    let script = format!(
        "ls {0}/baselines; find {1} -name '*.draft' -o -name '*.unmended'",
        directory.display(),
        state().display()
    );
    let listed = machine.command(&["sh", "-c", &script]).output().unwrap();
    let listed: BTreeSet<String> = text(&listed.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, there, "{what}");
    for host in ["a", "b"] {
        let file = directory
            .join(host)
            .join("disk0.qcow2")
            .display()
            .to_string();
        assert_eq!(states_in(machine, &file), there.len(), "{what}: {file}");
    }
    if restores {
        let said = lab(&["restore", "one"]);
        let words = lab(&["exec", "--all", "--", "cat", "/var/word"]);
        assert_eq!(words.matches("one").count(), 2, "{what}: {said}{words}");
    }
}

/// Makes zeros of a part of a host's disk. Where it is, is in the disk's header, behind `field`.
fn zero(machine: &Machine, file: &str, field: u64, follow: bool) {
    let word = |at: u64| {
        let (skip, read) = (format!("skip={at}"), format!("if={file}"));
        let arguments = ["dd", &read, "bs=1", &skip, "count=8", "status=none"];
        let output = machine.command(&arguments).output().unwrap();
        u64::from_be_bytes(output.stdout.try_into().unwrap())
    };
    let mut at = word(field);
    if follow {
        at = word(at);
    }
    assert!(at > 0);
    let (seek, write) = (format!("seek={at}"), format!("of={file}"));
    let arguments = [
        "dd",
        "if=/dev/zero",
        &write,
        "bs=1",
        &seek,
        "count=64",
        "conv=notrunc",
    ];
    assert!(
        machine
            .command(&arguments)
            .output()
            .unwrap()
            .status
            .success()
    );
}

/// Fields of a qcow2 header.
const REFCOUNT_TABLE: u64 = 48;
const SNAPSHOTS: u64 = 64;

#[test]
fn d1_a_disk_that_a_power_loss_has_damaged_is_mended_or_reported_and_not_used() {
    let (_directory, device) = plain_machine(DISK_GIB);
    let machine = Machine::boot(&device.0, 0);
    let up = ["--lab", LAB, "up", "tiny", "--scale", "8"];
    machine.done("before", &up);
    machine.done(
        "before",
        &[
            "--lab",
            LAB,
            "exec",
            "--all",
            "--",
            "sh",
            "-c",
            "echo one > /var/word",
        ],
    );
    machine.done("before", &["--lab", LAB, "snapshot", "one"]);
    let uuid = machine.json(&["--lab", LAB, "status"])["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let disk = |host: &str| {
        state()
            .join("pool/labs")
            .join(&uuid)
            .join(host)
            .join("disk0.qcow2")
            .display()
            .to_string()
    };
    drop(machine);

    // Counts that are wrong are counted anew, and the baseline is what it was.
    let machine = Machine::boot(&device.0, 1);
    let status = machine.json(&["--lab", LAB, "status"]);
    assert_eq!(status["hosts"][0]["cut_short"], true, "{status}");
    zero(&machine, &disk("a"), REFCOUNT_TABLE, true);
    let verified = machine.run(&["--lab", LAB, "snapshot", "one", "--verify"]);
    let said = text(&verified.stdout);
    assert!(
        said.contains("qemu-img check finds") && said.contains("twin recover"),
        "{said}"
    );
    // Down does not make a disk that was not checked one that was.
    machine.done("mended", &["--lab", LAB, "down"]);
    let said = machine.done("mended", &["--lab", LAB, "restore", "one"]);
    assert!(said.contains("mended its disk"), "{said}");
    let words = machine.done(
        "mended",
        &["--lab", LAB, "exec", "--all", "--", "cat", "/var/word"],
    );
    assert_eq!(words.matches("one").count(), 2, "{words}");
    drop(machine);

    // What cannot be mended is reported; the other host is started, and the baseline is not restored.
    let machine = Machine::boot(&device.0, 2);
    zero(&machine, &disk("a"), SNAPSHOTS, false);
    let output = machine.run(&["--lab", LAB, "restore", "one"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("a: ") && said.contains("qemu-img check finds"),
        "{said}"
    );
    let output = machine.run(&up);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("a: ") && said.contains("--blank"), "{said}");
    let status = machine.json(&["--lab", LAB, "status"]);
    assert_eq!(status["hosts"][0]["power"], "shut-off", "{status}");
    assert_eq!(status["hosts"][1]["power"], "running", "{status}");
    let mut blank = up.to_vec();
    blank.extend(["--replace", "a", "--blank"]);
    machine.done("blank", &blank);
}

const AUTOSTART: &str = "schema: twin/topology/v1\nname: auto\n\
    networks: {metal: {cidr: 10.77.16.0/24, gateway: 10.77.16.1, mode: nat, dhcp: static}}\n\
    defaults: {image: micro, vcpus: 1, memory: 1GiB, disk: 1GiB}\npolicy: {autostart: true}\n\
    hosts:\n  a: {nics: [{network: metal, address: 10.77.16.10}]}\n  b: {nics: [{network: metal, address: 10.77.16.11}]}\n";

const FAULTS: &str = "schema: twin/scenario/v1\nname: faults\ntitle: t\nabout: a\n\
    variants: {all: {expect: {}}}\nsafety: {baseline: none}\nprobes: []\n\
    steps:\n  - {id: release, do: {host-release: {host: a}}}\n  - {id: load, do: {cpu-pressure: {host: b, cpus: 1}}}\n\
    \x20 - {id: file, do: {file-change: {host: b, path: /var/f, content: other}}}\nobserve: 1s\n";

/// Faults that are open when the machine ends: disks are back before libvirtd runs, hosts wait until all is, and then start.
#[test]
fn d3_what_is_open_when_this_machine_ends_is_put_back_when_it_boots() {
    let (_directory, device) = plain_machine(DISK_GIB);
    // The machine has another state directory in the place of this one.
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        file.display().to_string()
    };
    let (topology, faults) = (write("auto.yaml", AUTOSTART), write("faults.yaml", FAULTS));
    let machine = Machine::boot(&device.0, 0);
    machine.done("before", &["up", &topology, "--scale", "8"]);
    machine.done(
        "before",
        &["exec", "a", "--", "sh", "-c", "echo own > /var/word; sync"],
    );
    let kept = machine.json(&["scenario", &faults, "--keep"]);
    assert_eq!(kept["kept"].as_array().unwrap().len(), 3, "{kept}");
    drop(machine);
    let machine = Machine::boot_with_units(&device.0, 1);
    let said = text(
        &machine
            .command(&["cat", "/run/twin/said"])
            .output()
            .unwrap()
            .stdout,
    );
    for told in [
        "release: a has its own disks",
        "a is not started until",
        "b is not started until",
        "load: no process",
        "file: b has no /var/f, as before",
        "b is started",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("ended with"), "{said}");
    let status = wait_for("both answer", Duration::from_secs(120), || {
        let status = machine.json(&["status"]);
        let hosts = status["hosts"].as_array()?.clone();
        hosts
            .iter()
            .all(|host| host["agent"] == "answers")
            .then_some(status)
    });
    assert_eq!(status["dirty"], false, "{status}");
    let word = machine.done("after", &["exec", "a", "--", "cat", "/var/word"]);
    assert!(word.contains("own"), "{word}");
    let links = machine
        .command(&["ls", "/etc/libvirt/qemu/autostart"])
        .output()
        .unwrap();
    assert_eq!(text(&links.stdout), "auto-a.xml\nauto-b.xml\n");
    let nothing = machine.done("after", &["recover"]);
    assert!(nothing.contains("nothing is open"), "{nothing}");
}

#[test]
fn d1_baselines_outlive_a_power_loss_at_any_write() {
    let directory = on_the_pool();
    let disk = blank_disk(directory.path(), DISK_GIB);
    let begin = directory.path().join("begin");
    let file = |path: &Path| path.display().to_string();
    tool("cp", &["--reflink=always", &file(&disk), &file(&begin)]);
    let logged = LoggedDisk::new(directory.path(), &disk);
    let machine = Machine::boot(logged.device(), 0);
    let lab = |words: &[&str]| {
        let mut all = vec!["--lab", LAB];
        all.extend(words);
        machine.done("before", &all)
    };
    lab(&["up", "tiny", "--scale", "8"]);
    let load = "echo one > /var/word; sync; (while :; do dd if=/dev/urandom of=/var/load bs=16k count=64 conv=fsync; done) >/dev/null 2>&1 </dev/null &";
    lab(&["exec", "--all", "--", "sh", "-c", load]);
    lab(&["snapshot", "one"]);
    lab(&["snapshot", "two"]);
    let mut all = Vec::new();
    for verb in [
        &["snapshot", "three"] as &'static [&str],
        &["restore", "one"],
        &["snapshot", "two", "--remove"],
        &["up", "tiny", "--scale", "8"],
    ] {
        let (before, from) = (baselines(&machine), logged.written());
        let of = if verb[0] == "up" { "other" } else { LAB };
        let mut words = vec!["--lab", of];
        words.extend(verb);
        machine.done("with power", &words);
        let (told, flushes) = (logged.written(), logged.flushes());
        wait_for("the load goes on", Duration::from_secs(60), || {
            (logged.flushes() > flushes && logged.written() > told).then_some(())
        });
        let to = logged.written();
        println!(
            "{verb:?}: {} KiB until it was done, {} KiB after that",
            (told - from) >> 10,
            (to - told) >> 10
        );
        all.push(Asked {
            verb,
            before,
            after: baselines(&machine),
            from,
            told,
            to,
        });
    }
    drop(machine);
    let log = logged.log.clone();
    drop(logged);
    let entries = entries(&log);
    let mut numbers = Numbers(20_261_129);
    let mut replay = Replay {
        entries: &entries,
        log: File::open(&log).unwrap(),
        disk: begin,
        done: 0,
    };
    let started = std::time::Instant::now();
    let mut boots = 0;
    for asked in &all {
        let cuts = cuts(&entries, asked, &mut numbers);
        let number = cuts.len();
        for (index, cut) in cuts.iter().enumerate() {
            let file = directory.path().join("cut");
            replay.cut(cut, &file, &mut numbers);
            let device = Loop::on(&file);
            boots += 1;
            let machine = Machine::boot(&device.0, boots);
            let has_effect = entries[cut.last].at >= asked.told;
            let restores = index % (number / 8).max(1) == 0;
            let what = format!(
                "{:?}, cut {index} after write {} of {}, lossy {:?}, told {has_effect}",
                asked.verb,
                cut.last,
                entries.len(),
                cut.lossy_from
            );
            println!("{:.1} s: {what}", started.elapsed().as_secs_f64());
            holds(&machine, asked, has_effect, restores, &what);
            drop(machine);
            drop(device);
            std::fs::remove_file(&file).unwrap();
        }
    }
    println!("power: {boots} cuts");
}
