//! Any call to a driver goes wrong while a run is under way, in each way that calls do: the lab is what it was before, or the run is
//! DIRTY and a recovery makes it so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use twin::diagnostics::Source;
use twin::lab::{Layout, Silent};
use twin::scenario::{self, Choice, RunResult, Verdict, World};
use twin::sim::{Decide, Fate, SimWorld, faulty};
use twin::units::Seed;
use twin::wire::GuestState;

use crate::lab_on_sim::{TOPOLOGY, up};
use crate::scenario_on_sim::normalised;

const SCENARIO: &str = "
schema: twin/scenario/v1
name: several
title: Several faults
safety: {baseline: none}
variants: {one: {expect: {off: fires}}}
probes: [{id: off, domain-state: {host: b, is: shut-off}}]
steps:
  - {id: reserve, do: {compute-reserve: {host: a, memory: 1GiB}}}
  - {id: link, do: {nic-link: {host: c, network: metal}}}
  - {id: apart, do: {partition: {between: [a], and: [c]}}}
  - {id: stop, do: {service-stop: {host: a, service: apache2}}}
  - {id: kill, do: {instance-kill: {host: a, instance: vm-0}}}
  - {id: autostart, do: {host-autostart: {host: b, autostart: \"on\"}}}
  - {id: off, do: {host-power: {host: b, power: \"off\"}}, within: 20s}
observe: 5s
steady: {services: healthy, within: 10s}
recover: {services: healthy, instances: as-before, within: 20s}
";

/// What of the lab has to be as before.
#[derive(Debug, PartialEq)]
struct Picture {
    outside: Vec<String>,
    guests: Vec<GuestState>,
    autostart: bool,
}

async fn picture(sim: &SimWorld, world: &World) -> Picture {
    let mut guests = Vec::new();
    for host in ["a", "b", "c"] {
        let state = world.state(host).await.unwrap();
        let mut state = normalised(&state);
        // A boot is another, and time has passed.
        (state.boot_id, state.uptime_ms, state.clock_ms) = (String::new(), 0, 0);
        state.nova_log.clear();
        guests.push(state);
    }
    let target = world.target("b").unwrap();
    let domain = &sim.drivers().hypervisor.domain;
    Picture {
        outside: sim.picture(),
        guests,
        autostart: domain.autostart(target).await.unwrap(),
    }
}

/// A run in which the call of this number, and that one alone, has this fate.
struct Tried {
    result: RunResult,
    call: Option<String>,
    calls: usize,
    before: Picture,
    after: Option<Picture>,
    /// What is open after a recovery by drivers that are well.
    left: usize,
    recovered: Picture,
}

async fn tried(number: usize, fate: Fate) -> Tried {
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let well = sim.drivers();
    let (_, journal, found) = up(TOPOLOGY, &well, directory.path()).await;
    let name = "several.yaml".into();
    let text = SCENARIO.into();
    let scenario = scenario::parse(&Source { name, text }).unwrap();
    let (counted, hit) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    let (counts, hits) = (Arc::clone(&counted), Arc::clone(&hit));
    let decide: Decide = Arc::new(move |call| {
        if counts.fetch_add(1, Ordering::SeqCst) != number {
            return Fate::Done;
        }
        *hits.lock().unwrap() = Some(call.to_owned());
        fate
    });
    let lab = found.record.uuid;
    let world = |drivers| World {
        drivers,
        layout: Layout::new(directory.path().to_owned()),
        found: found.clone(),
        seed: Seed(5),
        run: "r1".into(),
        lock: None,
    };
    let good = world(well.clone());
    let before = picture(&sim, &good).await;
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let bad = world(faulty(well, &decide));
    let choice = Choice::default();
    let result = scenario::run(&scenario, &choice, &bad, &journal, &Silent, interrupt).await;
    let result = result.unwrap();
    let dirty = !journal.open_acts(lab).unwrap().is_empty();
    assert_eq!(dirty, result.verdict == Verdict::Dirty, "{result:#?}");
    let after = if dirty {
        None
    } else {
        Some(picture(&sim, &good).await)
    };
    scenario::recover(&good, &journal).await.unwrap();
    let call = hit.lock().unwrap().clone();
    Tried {
        result,
        call,
        calls: counted.load(Ordering::SeqCst),
        before,
        after,
        left: journal.open_acts(lab).unwrap().len(),
        recovered: picture(&sim, &good).await,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_wrong_leaves_the_lab_as_it_was_or_dirty_until_it_is_recovered() {
    let whole = tried(usize::MAX, Fate::Done).await;
    assert_eq!(whole.result.verdict, Verdict::Pass, "{:#?}", whole.result);
    assert!(whole.calls > 40, "{}", whole.calls);
    let (mut dirty, mut hit) = (0, 0);
    for fate in [Fate::Refused, Fate::DoneAndFailed, Fate::Twice] {
        for number in 0..whole.calls {
            let one = tried(number, fate).await;
            let Some(call) = one.call else { continue };
            hit += 1;
            let what = format!("call {number}, {call}, {fate:?}: {:#?}", one.result);
            if let Some(after) = &one.after {
                assert_eq!(*after, one.before, "{what}");
            } else {
                dirty += 1;
            }
            assert_eq!(one.left, 0, "{what}");
            assert_eq!(one.recovered, one.before, "{what}");
        }
    }
    assert!(
        hit > 100 && dirty > 0 && dirty < hit / 2,
        "{dirty} of {hit}"
    );
}

/// A driver that says that it did, and did not: a verdict of pass has to be true all the same.
#[tokio::test(start_paused = true)]
async fn a_call_that_does_nothing_and_says_that_it_did_is_never_a_pass_that_is_untrue() {
    let calls = tried(usize::MAX, Fate::Done).await.calls;
    let mut passed = 0;
    for number in 0..calls {
        let one = tried(number, Fate::Pretended).await;
        if one.result.verdict == Verdict::Pass {
            passed += 1;
            let what = format!("call {number}, {:?}: {:#?}", one.call, one.result);
            assert_eq!(one.after.as_ref(), Some(&one.before), "{what}");
        }
    }
    assert!(passed > 0 && passed < calls, "{passed} of {calls}");
}
