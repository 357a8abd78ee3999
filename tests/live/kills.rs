//! kill -9 at random instants: the next `up` converges, `destroy` leaves nothing.

use std::time::Duration;

use twin::units::{Random, Seed};

use crate::support::{Strangers, TestLab, full, killed, tool};
use crate::turns;

/// A topology and how it is killed.
struct Rehearsal {
    topology: &'static str,
    /// Kills of `up` and of `destroy` each.
    kills: u64,
    /// Kills come at a random instant of these, longer than each verb takes.
    up_ms: u64,
    destroy_ms: u64,
}

#[test]
fn a_killed_up_is_finished_by_the_next_and_a_killed_destroy_leaves_nothing() {
    let _turn = turns::alone();
    rehearse(&Rehearsal {
        topology: "tiny",
        kills: if full() { 40 } else { 3 },
        up_ms: 7000,
        destroy_ms: 1200,
    });
    if full() {
        rehearse(&Rehearsal {
            topology: "testcloud",
            kills: 5,
            up_ms: 16_000,
            destroy_ms: 2500,
        });
    }
}

fn rehearse(rehearsal: &Rehearsal) {
    let lab = TestLab::new();
    let up = ["up", rehearsal.topology];
    let seed = Seed(
        std::env::var("TWIN_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(7),
    );
    let strangers = Strangers::make(&lab.name);
    let before = strangers.picture();
    // The stranger's domain is named like one of the lab's.
    let others = lab.traces();
    let mut random = Random::new(seed);
    lab.done(&up);
    lab.done(&["destroy"]);
    // With libvirt's own chains there, which stay.
    let clean = remains(&lab);
    let (mut ups, mut destroys) = (0, 0);
    for round in 0..rehearsal.kills {
        let after = Duration::from_millis(random.below(rehearsal.up_ms));
        ups += u32::from(killed(&lab, &up, after));
        // Every other time also without its journal's memory of it: the marks are enough.
        if round % 2 == 1 {
            forget(&lab);
        }
        lab.done(&up);
        let again = lab.json(&up);
        assert_eq!(
            again["changed"], 0,
            "seed {seed}, round {round}, {after:?}: {again}"
        );
        let after = Duration::from_millis(random.below(rehearsal.destroy_ms));
        destroys += u32::from(killed(&lab, &["destroy"], after));
        if round % 4 < 2 {
            forget(&lab);
        }
        let finished = lab.run(&["destroy"]);
        assert!(
            matches!(finished.status.code(), Some(0 | 4)),
            "seed {seed}, round {round}, {after:?}"
        );
        assert_eq!(
            lab.traces(),
            others,
            "seed {seed}, round {round}, destroy killed after {after:?}"
        );
        assert_eq!(
            remains(&lab),
            clean,
            "seed {seed}, round {round}, destroy killed after {after:?}"
        );
    }
    println!(
        "kills: {}, seed {seed}: {} each, {ups} of up and {destroys} of destroy hit it at work",
        rehearsal.topology, rehearsal.kills
    );
    assert!(ups > 0 && destroys > 0, "no kill hit anything");
    assert_eq!(strangers.picture(), before);
}

/// Deletes the journal.
fn forget(lab: &TestLab) {
    for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = std::fs::remove_file(lab.state.join(name));
    }
}

/// What a lab can leave on this machine: links, rules, DHCP servers with their files, and files of its own. Counters of rules
/// go on counting, and are left out.
fn remains(lab: &TestLab) -> Vec<String> {
    let mut remains: Vec<String> = tool("ip", &["-o", "link"])
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|link| format!("link {link}"))
        .collect();
    for list in ["iptables-save", "ip6tables-save"] {
        let rules = tool(list, &[]);
        let rules = rules.lines().filter(|line| line.starts_with("-A"));
        remains.extend(rules.map(|rule| format!("{list} {rule}")));
    }
    remains.push(tool("nft", &["list", "tables"]));
    let below = |directory: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path().display().to_string())
            .collect()
    };
    let pool = lab.state.join("pool");
    let places = [
        pool.join("labs"),
        pool.join("ram/libvirt/qemu"),
        "/var/lib/libvirt/dnsmasq".into(),
        "/run/libvirt/network".into(),
        "/var/lib/libvirt/qemu/nvram".into(),
        "/var/lib/libvirt/qemu/save".into(),
    ];
    remains.extend(places.iter().flat_map(|place| below(place)));
    remains.sort();
    remains
}
