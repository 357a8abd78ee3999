//! `kill -9` at every write of the journal while a baseline is taken and while one is restored; and what happens when QEMU
//! or the disk fails in the middle.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::space::{Filled, go_on, stopped_at};
use crate::support::{TestLab, full, restart_libvirtd, text, tool, wait_for};
use crate::turns;

/// In debug builds twin dies at this point; there is one before and one after each write of the journal.
const DIE_AT: &str = "TWIN_DIE_AT";

/// More points than any verb has.
const MOST: u64 = 60;

fn lab_directory(lab: &TestLab) -> PathBuf {
    let uuid = lab.json(&["status"])["uuid"].as_str().unwrap().to_owned();
    lab.state.join("pool/labs").join(uuid)
}

/// Runs a verb that dies at a point; tells whether it got there. With somebody who stands by, waits until they have done
/// their work.
fn dies(lab: &TestLab, arguments: &[&str], point: u64, guarded: bool) -> bool {
    let mut command = lab.command(arguments);
    command.env(DIE_AT, point.to_string());
    if !guarded {
        command.env("TWIN_ALONE", "1");
    }
    let output = command.output().unwrap();
    wait_for("those who stand by end", Duration::from_secs(30), || {
        (standing_by(lab) == 0).then_some(())
    });
    match output.status.signal() {
        Some(9) => true,
        None if output.status.success() => false,
        _ => panic!("{arguments:?} at {point}: {}", text(&output.stderr)),
    }
}

/// Processes that stand by for a lab.
fn standing_by(lab: &TestLab) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|line| text(&line).replace('\0', " "))
        .filter(|line| {
            line.contains(&format!("--lab {} ", lab.name)) && line.contains("--stand-by")
        })
        .count()
}

/// Which points are gone through: one before and one after a write of every six, and all at full size.
fn chosen(point: u64) -> bool {
    full() || matches!(point % 12, 1 | 8)
}

/// Whether somebody stands by at a point: by turns, and both at full size.
fn guards(point: u64) -> &'static [bool] {
    match (full(), point % 2) {
        (true, _) => &[false, true],
        (false, 0) => &[true],
        (false, _) => &[false],
    }
}

/// The states that a host's disk holds.
fn states(directory: &Path, host: &str) -> Vec<String> {
    let disk = directory.join(host).join("disk0.qcow2");
    let listed = tool(
        "qemu-img",
        &["snapshot", "-U", "-l", &disk.display().to_string()],
    );
    let words = listed
        .split_whitespace()
        .filter(|word| word.starts_with("twin-"));
    words.map(str::to_owned).collect()
}

/// Nothing half-made is there, and the domains are ordinary.
fn all_is_whole(lab: &TestLab, directory: &Path, what: &str) {
    let listed = lab.json(&["snapshots"]);
    let names: Vec<&str> = listed["baselines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|baseline| baseline["name"].as_str().unwrap())
        .collect();
    let mut there: Vec<String> = std::fs::read_dir(directory.join("baselines"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    assert_eq!(there, names, "{what}");
    for host in ["a", "b"] {
        assert_eq!(states(directory, host).len(), names.len(), "{what}: {host}");
        let capabilities = tool(
            "virsh",
            &[
                "qemu-monitor-command",
                &format!("{}-{host}", lab.name),
                r#"{"execute":"query-migrate-capabilities"}"#,
            ],
        );
        assert!(
            capabilities.contains(r#"{"state":false,"capability":"x-ignore-shared"}"#),
            "{what}: {capabilities}"
        );
    }
    for name in names {
        assert_eq!(
            lab.run(&["snapshot", name, "--verify"]).status.code(),
            Some(0),
            "{what}"
        );
    }
    let tables = tool("nft", &["list", "tables"]);
    assert!(!tables.contains("_hold"), "{what}: {tables}");
    let status = lab.json(&["status"]);
    assert_eq!(status["dirty"], false, "{what}: {status}");
    for host in status["hosts"].as_array().unwrap() {
        assert_eq!(host["power"], "running", "{what}: {status}");
        assert_eq!(host["agent"], "answers", "{what}: {status}");
    }
}

#[test]
fn a_death_at_any_write_leaves_nothing_half_made() {
    let _turn = turns::alone();
    let lab = TestLab::new();
    lab.done(&["up", "tiny"]);
    let directory = lab_directory(&lab);
    let deaths = (
        deaths_of_a_snapshot(&lab, &directory),
        deaths_of_a_restore(&lab, &directory),
        deaths_of_a_removal(&lab, &directory),
    );
    println!(
        "deaths: {} of a snapshot, {} of a restore, {} of a removal",
        deaths.0, deaths.1, deaths.2
    );
    let least = if full() { (20, 16, 8) } else { (3, 2, 1) };
    assert!(
        deaths.0 >= least.0 && deaths.1 >= least.1 && deaths.2 >= least.2,
        "{deaths:?}"
    );
    // A point is gone through with a watchdog and without, at full size.
    let guards = if full() { 2 } else { 1 };
    let all = (deaths.0 / guards, deaths.1 / guards);
    let all = if full() { all } else { (10, 8) };
    let captured = last_standing(&lab, &["snapshot", "y"], all.0);
    let loaded = last_standing(&lab, &["restore", "x"], all.1);
    println!(
        "standing: captured at {captured} of {}, put back at {loaded} of {}",
        all.0, all.1
    );
    disturbed(&lab, &directory, all, (captured, loaded));
    a_process_that_dies(&lab, (captured, loaded));
    what_was_done_to_this_machine_is_put_back_before_a_restore(&lab);
}

/// A partition is made of rules of this machine, by the hosts' ports; no baseline has them.
fn what_was_done_to_this_machine_is_put_back_before_a_restore(lab: &TestLab) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("apart.yaml");
    let scenario = "schema: twin/scenario/v1\nname: apart\ntitle: t\nabout: a\n\
        variants: {bug: {expect: {}}}\nsafety: {baseline: none}\nprobes: []\n\
        steps:\n  - {id: apart, do: {partition: {between: [a], and: [b]}}}\n\
        observe: 0s\nrecover: {services: healthy, instances: as-before, within: 2m}\n";
    std::fs::write(&file, scenario).unwrap();
    let kept = lab.json(&["scenario", &file.display().to_string(), "--keep"]);
    assert_eq!(kept["kept"], serde_json::json!(["apart"]), "{kept:#}");
    let uuid = lab.json(&["status"])["uuid"].as_str().unwrap().parse();
    let table = twin::plan::table_name(uuid.unwrap());
    let ours = || tool("nft", &["list", "tables"]).matches(&table).count();
    assert!(ours() > 0, "{}", tool("nft", &["list", "tables"]));
    lab.done(&["restore", "x"]);
    assert_eq!(ours(), 0, "{}", tool("nft", &["list", "tables"]));
    let nothing = lab.done(&["recover"]);
    assert!(nothing.contains("nothing is open"), "{nothing}");
}

/// Has a verb die at one point after the other, until it comes to its end; `dies_at` tells whether it got there.
fn deaths(mut dies_at: impl FnMut(u64, bool) -> bool) -> u32 {
    let mut deaths = 0;
    for point in (1..MOST).filter(|point| chosen(*point)) {
        let mut died = false;
        for guarded in guards(point) {
            died = dies_at(point, *guarded);
            deaths += u32::from(died);
        }
        if !died {
            break;
        }
    }
    deaths
}

/// Dies at a point, and is put right by whoever stands by, without a word from anybody, or by `recover`. Of `baselines` that
/// there are afterwards the one called `name` is removed.
fn dies_and_is_put_right(
    lab: &TestLab,
    directory: &Path,
    arguments: &[&str],
    (point, guarded): (u64, bool),
    (name, baselines): (&str, usize),
) -> bool {
    let what = format!("{arguments:?}, point {point}, guarded {guarded}");
    let died = dies(lab, arguments, point, guarded);
    if died && !guarded {
        lab.done(&["recover"]);
    }
    all_is_whole(lab, directory, &what);
    let again = lab.done(&["recover"]);
    assert!(again.contains("nothing is open"), "{what}: {again}");
    let listed = lab.json(&["snapshots"]);
    if listed["baselines"].as_array().unwrap().len() == baselines {
        lab.done(&["snapshot", name, "--remove"]);
    }
    died
}

fn deaths_of_a_snapshot(lab: &TestLab, directory: &Path) -> u32 {
    deaths(|point, guarded| {
        let take = ["snapshot", "x"];
        dies_and_is_put_right(lab, directory, &take, (point, guarded), ("x", 1))
    })
}

fn write_word(lab: &TestLab, word: &str) {
    let script = format!("echo {word} > /run/word; echo {word} > /var/word");
    lab.done(&["exec", "--all", "--", "sh", "-c", &script]);
}

fn deaths_of_a_restore(lab: &TestLab, directory: &Path) -> u32 {
    write_word(lab, "cut");
    lab.done(&["snapshot", "x"]);
    deaths(|point, guarded| {
        let what = format!("restore, point {point}, guarded {guarded}");
        write_word(lab, "later");
        let died = dies(lab, &["restore", "x"], point, guarded);
        if died {
            let recovered = lab.done(&["recover"]);
            let nothing = recovered.contains("nothing is open");
            assert!(nothing || !guarded, "{what}: {recovered}");
            // A death before the intent was written has stopped nothing: there is nothing to finish.
            let words = lab.done(&["exec", "--all", "--", "cat", "/run/word"]);
            if nothing && words.contains("later") {
                lab.done(&["restore", "x"]);
            }
        }
        all_is_whole(lab, directory, &what);
        let words = lab.json(&["exec", "--all", "--", "cat", "/run/word", "/var/word"]);
        for host in words["hosts"].as_array().unwrap() {
            assert_eq!(host["stdout"], "cut\ncut\n", "{what}");
        }
        died
    })
}

/// A removal that dies is finished by `recover`, or was never begun; no state of it is left in the disks.
fn deaths_of_a_removal(lab: &TestLab, directory: &Path) -> u32 {
    deaths(|point, guarded| {
        lab.done(&["snapshot", "y"]);
        let remove = ["snapshot", "y", "--remove"];
        dies_and_is_put_right(lab, directory, &remove, (point, guarded), ("y", 2))
    })
}

/// The last point of a verb, of so many, at which all hosts stand still: captured, or put back.
fn last_standing(lab: &TestLab, arguments: &[&str], all: u32) -> u64 {
    let stands = |host: &str| {
        let state = tool("virsh", &["domstate", &format!("{}-{host}", lab.name)]);
        state.trim() == "paused"
    };
    let mut last = None;
    for point in 1..=u64::from(all) {
        let twin = stopped_at(lab, arguments, point);
        if stands("a") && stands("b") {
            last = Some(point);
        }
        let (code, said) = go_on(twin);
        assert_eq!(code, Some(0), "{arguments:?} at {point}: {said}");
        if arguments[0] == "snapshot" {
            lab.done(&["snapshot", arguments[1], "--remove"]);
        }
    }
    last.unwrap_or_else(|| panic!("the hosts stand still at no point of {arguments:?}"))
}

/// Points at which the disk fills up or libvirtd is restarted: all of them at full size, and else the one at which the hosts stand
/// still, with one before it and one after it.
fn points(all: u32, standing: u64) -> Vec<u64> {
    if full() {
        (1..=u64::from(all)).collect()
    } else {
        vec![standing - 2, standing, standing + 2]
    }
}

/// Fills the pool, or kills libvirtd and starts it again, while twin stands at a point of the journal. Afterwards the lab
/// runs on, or twin says DIRTY and `recover` finishes it; the baseline that there was is whole.
fn disturbed(lab: &TestLab, directory: &Path, all: (u32, u32), standing: (u64, u64)) {
    for (verb, name, all, standing) in [
        ("snapshot", "y", all.0, standing.0),
        ("restore", "x", all.1, standing.1),
    ] {
        for point in points(all, standing) {
            for disk_full in [true, false] {
                let cause = if disk_full {
                    "full disk"
                } else {
                    "libvirtd restarted"
                };
                let what = format!("{verb} at {point}, {cause}");
                let twin = stopped_at(lab, &[verb, name], point);
                let filled = disk_full.then(|| Filled::leaving(lab, 0));
                if !disk_full {
                    restart_libvirtd();
                }
                let (code, said) = go_on(twin);
                drop(filled);
                match code {
                    Some(0) => {}
                    Some(4) => assert!(said.contains("cure"), "{what}: {said}"),
                    Some(5) => assert!(said.contains("twin recover"), "{what}: {said}"),
                    other => panic!("{what}: {other:?}: {said}"),
                }
                let recovered = lab.done(&["recover"]);
                let what = format!("{what}: {code:?}: {said}{recovered}");
                // A process that wanted memory while there was none is gone; the kernel has ended it.
                if disk_full {
                    lab.done(&["restore", "x"]);
                }
                all_is_whole(lab, directory, &what);
                let listed = lab.json(&["snapshots"]);
                if listed["baselines"].as_array().unwrap().len() == 2 {
                    lab.done(&["snapshot", "y", "--remove"]);
                }
            }
        }
    }
}

/// QEMU killed while a baseline is restored or taken: nothing is lost.
fn a_process_that_dies(lab: &TestLab, (captured, loaded): (u64, u64)) {
    let pid = |host: &str| {
        let file = format!("/run/libvirt/qemu/{}-{host}.pid", lab.name);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    };
    for (point, host) in [(loaded - 1, "b"), (loaded, "a")] {
        let twin = stopped_at(lab, &["restore", "x"], point);
        tool("kill", &["-9", &pid(host)]);
        let (code, said) = go_on(twin);
        assert!(matches!(code, Some(0 | 5)), "{point}: {code:?}: {said}");
        lab.done(&["recover"]);
        // Where it was too late to matter the host is gone afterwards, and one more restore brings it back.
        lab.done(&["restore", "x"]);
        let words = lab.done(&["exec", "--all", "--", "cat", "/run/word"]);
        assert_eq!(words.matches("cut").count(), 2, "{point}: {words}");
    }
    let twin = stopped_at(lab, &["snapshot", "y"], captured);
    tool("kill", &["-9", &pid("a")]);
    let (code, said) = go_on(twin);
    assert!(matches!(code, Some(0 | 4 | 5)), "{code:?}: {said}");
    lab.done(&["recover"]);
    let there = lab.json(&["snapshots"])["baselines"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(there, if code == Some(0) { 2 } else { 1 }, "{said}");
    lab.done(&["restore", "x"]);
    assert_eq!(
        lab.done(&["exec", "--all", "--", "cat", "/run/word"])
            .matches("cut")
            .count(),
        2
    );
}
