//! kill -9 at random instants: the next `up` converges, `destroy` leaves nothing.

use std::time::{Duration, Instant};

use twin::units::{Random, Seed};

use crate::support::{TestLab, full};

/// Kills of `up` and of `destroy` each, at full size and as a sample.
fn kills() -> u64 {
    if full() { 40 } else { 3 }
}

/// Starts a verb and kills it after `after`; tells whether it was still at work.
fn killed(lab: &TestLab, arguments: &[&str], after: Duration) -> bool {
    let mut child = lab.spawn(arguments);
    let until = Instant::now() + after;
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

#[test]
fn a_killed_up_is_finished_by_the_next_and_a_killed_destroy_leaves_nothing() {
    let lab = TestLab::new();
    let seed = Seed(
        std::env::var("TWIN_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(7),
    );
    let mut random = Random::new(seed);
    lab.done(&["up", "tiny"]);
    lab.done(&["destroy"]);
    let mut hits = 0;
    for round in 0..kills() {
        let after = Duration::from_millis(random.below(7000));
        hits += u32::from(killed(&lab, &["up", "tiny"], after));
        // Every other time also without its journal's memory of it: the marks are enough.
        if round % 2 == 1 {
            for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
                let _ = std::fs::remove_file(lab.state.join(name));
            }
        }
        if round % 3 == 2 {
            let destroyed = lab.run(&["destroy"]);
            let nothing_yet = destroyed.status.code() == Some(4);
            assert!(
                nothing_yet || destroyed.status.code() == Some(0),
                "seed {seed}, round {round}, {after:?}"
            );
            assert_eq!(
                lab.traces(),
                Vec::<String>::new(),
                "seed {seed}, round {round}, {after:?}"
            );
            continue;
        }
        lab.done(&["up", "tiny"]);
        let again = lab.json(&["up", "tiny"]);
        assert_eq!(
            again["changed"], 0,
            "seed {seed}, round {round}, {after:?}: {again}"
        );
        let after = Duration::from_millis(random.below(1200));
        hits += u32::from(killed(&lab, &["destroy"], after));
        let finished = lab.run(&["destroy"]);
        assert!(
            matches!(finished.status.code(), Some(0 | 4)),
            "seed {seed}, round {round}, {after:?}"
        );
        assert_eq!(
            lab.traces(),
            Vec::<String>::new(),
            "seed {seed}, round {round}, destroy killed after {after:?}"
        );
    }
    assert!(hits > 0, "no kill hit anything");
}
