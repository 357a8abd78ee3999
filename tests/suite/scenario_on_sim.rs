//! The engine on the simulated drivers: that it puts everything back, and that an action without effect is never a pass.

use std::sync::Mutex;

use twin::diagnostics::Source;
use twin::hypervisor::PowerAction;
use twin::journal::{ActState, Journal, Owner};
use twin::lab::{Event, Layout, Lock, Silent, Watch};
use twin::scenario::{
    self, Choice, Outcome, RunEvent, RunPhase, RunResult, RunWatch, StepOutcome, VariantResult,
    Verdict, World,
};
use twin::sim::{Sabotage, SimWorld};
use twin::snapshot;
use twin::units::Seed;
use twin::wire::GuestState;

use crate::lab_on_sim::up;
use crate::support::{events, is_on_record};

pub(crate) const LAB: &str = "
schema: twin/topology/v1
name: simlab
networks:
  metal: {bridge: sim1, cidr: 10.1.0.0/24, gateway: 10.1.0.1, mode: nat, dhcp: static}
defaults: {image: micro, memory: 8GiB, disk: 0MiB, ram: anon}
hosts:
  a:
    nics: [{network: metal, address: 10.1.0.10}]
    services: [{name: mysqld, memory: 1GiB, ports: [3306]}, {name: apache2, memory: 1GiB}]
    compute: true
    instances: [{name: vm-0, flavor: worker}]
compute: {ram_allocation_ratio: 0.98, reserved_host_memory: 512MiB, flavors: {worker: 1GiB}}
";

const SCENARIO: &str = "
schema: twin/scenario/v1
name: sim-fill
title: Fill a host
vars: {host: a, reserved: 1GiB}
variants:
  bug: {expect: {no-valid-host: fires, killed: never}}
  wrong: {expect: {killed: fires}}
probes:
  - {id: no-valid-host, scheduler-refused: {step: fill}}
  - {id: killed, vm-counter: {host: \"${host}\", counter: oom_kill, rises-by: 1}}
steps:
  - {id: services, do: {service-run: {host: \"${host}\", services: mysqld}}, within: 20s}
  - {id: reserve, do: {compute-reserve: {host: \"${host}\", memory: \"${reserved}\"}}}
  - {id: fill, do: {instance-fill: {host: \"${host}\", flavor: worker}}}
  - {id: touch, do: {instance-touch: {host: \"${host}\"}}, within: 20s}
observe: 10s
recover: {services: healthy, instances: as-before, within: 1m}
";

/// Has another program change the lab when the reverts begin.
struct Interference {
    sim: SimWorld,
    wanted: bool,
}

impl Watch for Interference {
    fn tell(&self, _: Event<'_>) {}
}

impl RunWatch for Interference {
    fn happened(&self, event: &RunEvent) {
        let phase = RunPhase::Undoing;
        if self.wanted && *event == (RunEvent::PhaseBegun { phase }) {
            self.sim.interfere();
        }
    }
}

async fn run(variant: &str, faults: &[Sabotage]) -> (RunResult, GuestState, GuestState, usize) {
    let outcome = run_with(variant, faults, false, false).await;
    assert_eq!(outcome.4, Vec::<String>::new(), "no baseline is left");
    (outcome.0, outcome.1, outcome.2, outcome.3)
}

/// Runs with faults from the beginning, and with an interference where it is wanted; the last of what it returns are the baselines that are left.
async fn run_with(
    variant: &str,
    faults: &[Sabotage],
    interference: bool,
    restore_on_failure: bool,
) -> (RunResult, GuestState, GuestState, usize, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let drivers = sim.drivers();
    let (_, journal, found) = up(LAB, &drivers, directory.path()).await;
    let source = Source {
        name: "sim-fill.yaml".into(),
        text: SCENARIO.into(),
    };
    let scenario = scenario::parse(&source).unwrap();
    let layout = Layout::new(directory.path().to_owned());
    let lab = found.record.uuid;
    let world = World {
        drivers,
        layout,
        found,
        seed: Seed(5),
        run: "r1".into(),
        lock: None,
    };
    let before = world.state("a").await.unwrap();
    faults.iter().for_each(|fault| sim.sabotage(*fault));
    let choice = Choice {
        variants: vec![variant.into()],
        restore_on_failure,
        ..Choice::default()
    };
    let watch = Interference {
        sim: sim.clone(),
        wanted: interference,
    };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let document = scenario::run(&scenario, &choice, &world, &journal, &watch, interrupt)
        .await
        .unwrap();
    is_on_record(&journal, &document);
    let after = world.state("a").await.unwrap();
    (
        document,
        before,
        after,
        journal.open_acts(lab).unwrap().len(),
        snapshot::list(&world.layout, lab)
            .unwrap()
            .into_iter()
            .map(|listed| listed.name)
            .collect(),
    )
}

/// Process ids differ after a restart; everything else has to be as before.
pub(crate) fn normalised(state: &GuestState) -> GuestState {
    let mut state = state.clone();
    for process in state
        .services
        .iter_mut()
        .filter_map(|service| service.process.as_mut())
    {
        (process.pid, process.rss_kib) = (0, 0);
    }
    for instance in &mut state.instances {
        instance.last_pid = None;
        if let Some(process) = &mut instance.process {
            process.pid = 0;
        }
    }
    state
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_as_expected_passes_and_puts_everything_back() {
    let (document, before, after, open) = run("bug", &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    assert_eq!(normalised(&before), normalised(&after));
    assert_eq!(open, 0);
    let steps = &document.worlds[0].variants[0].steps;
    let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "services",
            "reserve",
            "fill",
            "touch",
            "undo touch",
            "undo fill",
            "undo reserve",
            "undo services"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_expectation_that_does_not_show_fails() {
    let (document, ..) = run("wrong", &[]).await;
    assert_eq!(document.verdict, Verdict::Fail);
    assert_eq!(document.worlds[0].variants[0].outcome, Outcome::Unexpected);
}

#[tokio::test(start_paused = true)]
async fn each_action_made_ineffective_is_inconclusive_and_never_a_pass() {
    for fault in [
        Sabotage::Services,
        Sabotage::Reserve,
        Sabotage::Boot,
        Sabotage::Touch,
    ] {
        let (document, before, after, open) = run("bug", &[fault]).await;
        assert_eq!(
            document.verdict,
            Verdict::Inconclusive,
            "{fault:?}: {document:#?}"
        );
        assert!(!document.worlds[0].variants[0].injected, "{fault:?}");
        assert_eq!(open, 0, "{fault:?}");
        assert_eq!(
            normalised(&before).instances,
            normalised(&after).instances,
            "{fault:?}"
        );
    }
}

/// What no fault of the run has changed is found by the comparison with the baseline.
#[tokio::test(start_paused = true)]
async fn a_lab_that_is_not_as_before_fails_and_its_baseline_is_kept_or_restored() {
    let (document, before, after, _, kept) = run_with("bug", &[], true, false).await;
    assert_ne!(after.resume, before.resume, "{document:#?}");
    assert!(
        !matches!(document.verdict, Verdict::Pass | Verdict::Inconclusive),
        "{document:#?}"
    );
    assert_eq!(document.baseline.as_deref(), Some("run-r1"));
    assert_eq!(kept, ["run-r1"]);

    // Also where a step went wrong before: that the lab is not what it was weighs more.
    let (document, ..) = run_with("bug", &[Sabotage::Touch], true, false).await;
    assert_eq!(document.verdict, Verdict::Fail, "{document:#?}");
    let why = &document.worlds[0].variants[0].why;
    let tells = |word: &str| why.iter().any(|line| line.starts_with(word));
    assert!(tells("step touch: ") && tells("not recovered: "), "{why:?}");

    let (document, before, after, open, kept) = run_with("bug", &[], true, true).await;
    assert_eq!(normalised(&before), normalised(&after), "{document:#?}");
    assert_eq!(document.verdict, Verdict::Fail, "{document:#?}");
    let variant = &document.worlds[0].variants[0];
    assert!(variant.recovered, "{document:#?}");
    let last = variant.steps.last().unwrap();
    assert_eq!(
        (last.id.as_str(), last.result),
        ("restore run-r1", StepOutcome::Undone)
    );
    assert_eq!((open, document.left, kept), (0, vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_left_blocks_the_next_until_it_is_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(3)).drivers();
    let (layout, journal, found) = up(LAB, &drivers, directory.path()).await;
    let lab = found.record.uuid;
    journal
        .begin_run("dead", (lab, "lab"), "sim-fill", 1)
        .unwrap();
    let captured = r#"{"host":"a","reserved_mib":512}"#;
    journal
        .intend_act(&twin::journal::Intent {
            run: "dead",
            variant: "bug",
            step: "reserve",
            action: "compute-reserve",
            undo: captured,
            expires: None,
            outside: false,
        })
        .unwrap();
    let world = World {
        drivers,
        layout,
        found,
        seed: Seed(5),
        run: "r1".into(),
        lock: None,
    };
    world
        .guest("a")
        .unwrap()
        .ask(twin::wire::Request::ComputeReserve { reserved_mib: 9999 })
        .await
        .unwrap();
    let scenario = scenario::parse(&Source {
        name: "sim-fill.yaml".into(),
        text: SCENARIO.into(),
    })
    .unwrap();
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let refused = scenario::run(
        &scenario,
        &Choice::default(),
        &world,
        &journal,
        &Silent,
        interrupt,
    )
    .await;
    assert!(matches!(
        refused,
        Err(scenario::ScenarioError::Dirty { .. })
    ));
    let recovered = scenario::recover(&world, &journal).await.unwrap();
    assert_eq!(
        (
            recovered.len(),
            recovered[0].undone.len(),
            recovered[0].left.len()
        ),
        (1, 1, 0)
    );
    assert_eq!(world.state("a").await.unwrap().reserved_mib, Some(512));
    assert!(
        scenario::recover(&world, &journal)
            .await
            .unwrap()
            .is_empty(),
        "a second recover has nothing to do"
    );
}

/// A scenario of two faults in a lab of one host, and what it takes to run it.
async fn two_faults(directory: &std::path::Path) -> (scenario::Scenario, World, Journal) {
    let source = Source {
        name: "two.yaml".into(),
        text: "schema: twin/scenario/v1\nname: two\ntitle: T\nvariants: {only: {expect: {}}}\n\
            safety: {baseline: none}\nprobes: []\nsteps:\n\
            \x20 - {id: reserve, do: {compute-reserve: {host: a, memory: 1GiB}}}\n\
            \x20 - {id: stop, do: {service-stop: {host: a, service: mysqld}}}\n\
            \x20 - {id: wait, pause: 5s}\nobserve: 1s\nrecover: {within: 30s}\n"
            .into(),
    };
    let drivers = SimWorld::new(Seed(3)).drivers();
    let (layout, journal, found) = up(LAB, &drivers, directory).await;
    let world = World {
        drivers,
        layout,
        found,
        seed: Seed(5),
        run: "r1".into(),
        lock: None,
    };
    (scenario::parse(&source).unwrap(), world, journal)
}

/// What a run comes to while somebody else is at work, who does not end.
async fn beside(
    run: impl Future<Output = Result<RunResult, scenario::ScenarioError>>,
    other: impl Future<Output = std::convert::Infallible>,
) -> RunResult {
    tokio::select! {
        ended = run => ended.unwrap(),
        never = other => match never {},
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Listener {
    events: Mutex<Vec<RunEvent>>,
    notes: Mutex<Vec<String>>,
}

impl Watch for Listener {
    fn tell(&self, event: Event<'_>) {
        if let Event::Note(note) = event {
            self.notes.lock().unwrap().push(note.to_owned());
        }
    }
}

impl RunWatch for Listener {
    fn happened(&self, event: &RunEvent) {
        self.events.lock().unwrap().push(event.clone());
    }
}

/// Runs a scenario of two faults in which the journal refuses what `when` says, if anything.
async fn listened(
    directory: &std::path::Path,
    when: Option<&str>,
) -> (Listener, RunResult, Journal) {
    let (scenario, world, journal) = two_faults(directory).await;
    if let Some(when) = when {
        let full = "BEGIN SELECT raise(ABORT, 'database or disk is full'); END;";
        meddle(directory, &format!("CREATE TRIGGER disk {when} {full}"));
    }
    let listener = Listener::default();
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let ended = scenario::run(&scenario, &choice, &world, &journal, &listener, interrupt).await;
    (listener, ended.unwrap(), journal)
}

/// Whoever listens hears what is on record, and of it the result is made; of a run that is killed, what came of it until then.
#[tokio::test(start_paused = true)]
async fn a_run_is_its_events() {
    let directory = tempfile::tempdir().unwrap();
    let (listener, result, journal) = listened(directory.path(), None).await;
    let heard = listener.events.into_inner().unwrap();
    assert_eq!(heard, events(&journal, &result.run));
    assert_eq!(RunResult::of(heard.clone()), Some(result.clone()));
    assert_eq!(result.verdict, Verdict::Pass, "{result:#?}");
    let kinds = |event: &RunEvent| serde_json::to_value(event).unwrap()["event"].clone();
    let kinds: Vec<serde_json::Value> = heard.iter().map(kinds).collect();
    for kind in ["phase-begun", "step-begun", "acting", "acted", "step-ended"] {
        assert!(kinds.contains(&kind.into()), "{kind}: {kinds:?}");
    }
    // Killed after any of them.
    for length in 1..heard.len() {
        let cut = RunResult::of(heard[..length].to_vec()).unwrap();
        assert_eq!(cut.verdict, Verdict::Inconclusive, "{length}");
        let variants = &cut.worlds[0].variants;
        let ended = heard[..length]
            .iter()
            .filter(|event| matches!(event, RunEvent::VariantEnded(_)));
        assert!(ended.count() <= variants.len());
        let broken = |variant: &&VariantResult| {
            variant.why == ["the run has not come to this variant's end"]
        };
        let junit = twin::report::scenario_junit(&cut);
        if variants.iter().any(|variant| broken(&variant)) {
            assert!(junit.contains("has not come to this variant"), "{junit}");
            assert!(!junit.contains("failures=\"0\""), "{junit}");
        }
    }
    assert_eq!(
        RunResult::of(heard[1..].to_vec()),
        None,
        "it does not begin with its begin"
    );
}

#[tokio::test(start_paused = true)]
async fn events_that_the_journal_does_not_take_are_written_with_the_next() {
    // For a time: until the first act.
    let once = "BEFORE INSERT ON events WHEN NEW.event LIKE '%step-begun%'
        AND NOT EXISTS (SELECT 1 FROM acts WHERE state = 'acted')";
    let directory = tempfile::tempdir().unwrap();
    let (listener, result, journal) = listened(directory.path(), Some(once)).await;
    assert_eq!(
        events(&journal, &result.run),
        listener.events.into_inner().unwrap()
    );
    assert_eq!(listener.notes.into_inner().unwrap(), Vec::<String>::new());
    // For ever: the run goes on, and says so. What is open then is for the watchdog to look at.
    let directory = tempfile::tempdir().unwrap();
    let always = Some("BEFORE INSERT ON events");
    let (listener, result, journal) = listened(directory.path(), always).await;
    assert_eq!(result.verdict, Verdict::Pass, "{result:#?}");
    let notes = listener.notes.into_inner().unwrap();
    let told = |note: &String| note.contains("not on record") && note.contains("disk is full");
    assert!(notes.iter().any(told), "{notes:?}");
    assert_eq!(journal.run(&result.run).unwrap().unwrap().ended_at, None);
}

/// Another process, as leases name it.
fn another() -> Owner {
    "run 1 1".parse().unwrap()
}

/// Changes the journal behind twin's back.
fn meddle(directory: &std::path::Path, sql: &str) {
    let file = directory.join("journal.sqlite");
    let connection = rusqlite::Connection::open(file).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_ends_the_run_and_is_put_back_all_the_same() {
    // Which writes the disk refuses, the verdict, and how many acts are open as the journal has it.
    let full = "BEGIN SELECT raise(ABORT, 'database or disk is full'); END;";
    let cases = [
        (
            "BEFORE UPDATE ON acts WHEN NEW.state = 'acted'",
            Verdict::Inconclusive,
            0,
        ),
        (
            "BEFORE UPDATE ON acts WHEN NEW.state = 'undone'",
            Verdict::Dirty,
            2,
        ),
        ("BEFORE UPDATE ON acts", Verdict::Dirty, 1),
        (
            "BEFORE UPDATE ON acts WHEN NEW.claimed_by IS NOT NULL",
            Verdict::Dirty,
            2,
        ),
        (
            "BEFORE INSERT ON acts WHEN NEW.step = 'stop'",
            Verdict::Inconclusive,
            0,
        ),
    ];
    for (when, verdict, open) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (scenario, world, journal) = two_faults(directory.path()).await;
        let before = normalised(&world.state("a").await.unwrap());
        meddle(
            directory.path(),
            &format!("CREATE TRIGGER disk {when} {full}"),
        );
        let (_keep, interrupt) = tokio::sync::watch::channel(false);
        let choice = Choice::default();
        let ended = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
        let document = ended.unwrap();
        assert_eq!(document.verdict, verdict, "{when}: {document:#?}");
        assert_eq!(document.left.len(), open, "{when}: {document:#?}");
        let told = |line: &String| line.contains("disk is full");
        let why = &document.worlds[0].variants[0].why;
        assert!(
            why.iter().chain(&document.left).any(told),
            "{when}: {document:#?}"
        );
        let lab = world.found.record.uuid;
        assert_eq!(journal.open_acts(lab).unwrap().len(), open, "{when}");
        let now = normalised(&world.state("a").await.unwrap());
        assert_eq!(now, before, "{when}: all is put back");
        // With space again, who recovers has nothing left to do but to write that down.
        meddle(directory.path(), "DROP TRIGGER disk");
        let recovered = scenario::recover(&world, &journal).await.unwrap();
        assert!(
            recovered.iter().all(|run| run.left.is_empty()),
            "{recovered:?}"
        );
        assert_eq!(journal.open_acts(lab).unwrap(), [], "{when}");
        assert_eq!(normalised(&world.state("a").await.unwrap()), before);
    }
}

/// Who stands by was in time, and could not: what was in the way may be gone at the end of the run.
#[tokio::test(start_paused = true)]
async fn what_another_could_not_put_back_is_tried_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let (scenario, world, journal) = two_faults(directory.path()).await;
    let before = normalised(&world.state("a").await.unwrap());
    let lab = world.found.record.uuid;
    let other = Journal::open(directory.path(), &world.drivers.clock).unwrap();
    let gives_up = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let open = other.open_acts(lab).unwrap();
            let Some(act) = open.iter().find(|act| act.step == "stop") else {
                continue;
            };
            let (act, by) = ((act.run.as_str(), act.sequence), &another());
            let expires = world
                .drivers
                .clock
                .boot()
                .later(std::time::Duration::from_secs(60));
            assert!(other.lease_act(act.0, act.1, by, &expires).unwrap());
            other
                .mark_act(act, by, ActState::Left, "no answer")
                .unwrap();
            break;
        }
        std::future::pending().await
    };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let run = Box::pin(scenario::run(
        &scenario, &choice, &world, &journal, &Silent, interrupt,
    ));
    let document = beside(run, gives_up).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    assert_eq!(normalised(&world.state("a").await.unwrap()), before);
}

/// What was in a guest's memory alone is over once the guest is off; what is on its disk, or in what it was told, is not.
#[tokio::test(start_paused = true)]
async fn d3_a_fault_in_memory_has_ended_once_the_guest_is_off() {
    let directory = tempfile::tempdir().unwrap();
    let (_, world, journal) = two_faults(directory.path()).await;
    let lab = world.found.record.uuid;
    journal.begin_run("dead", (lab, "lab"), "s", 1).unwrap();
    let acts = [
        ("clock", "clock-step", r#"{"host":"a","behind_us":0}"#),
        ("memory", "memory-pressure", r#"{"host":"a","process":"p"}"#),
        (
            "reserve",
            "compute-reserve",
            r#"{"host":"a","reserved_mib":512}"#,
        ),
    ];
    for (step, action, undo) in acts {
        let intent = twin::journal::Intent {
            run: "dead",
            variant: "bug",
            step,
            action,
            undo,
            expires: None,
            outside: false,
        };
        journal.intend_act(&intent).unwrap();
    }
    let target = world.target("a").unwrap();
    let hypervisor = &world.drivers.hypervisor;
    hypervisor
        .domain
        .power(target, PowerAction::Destroy)
        .await
        .unwrap();
    let recovered = scenario::recover(&world, &journal).await.unwrap();
    let steps = |all: &[(String, String)]| {
        let mut steps: Vec<String> = all.iter().map(|(step, _)| step.clone()).collect();
        steps.sort();
        steps
    };
    assert_eq!(
        steps(&recovered[0].undone),
        ["clock", "memory"],
        "{recovered:?}"
    );
    assert_eq!(steps(&recovered[0].left), ["reserve"], "{recovered:?}");
    assert!(
        recovered[0]
            .undone
            .iter()
            .all(|(_, done)| done.contains("went off"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_puts_back_what_was_to_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (scenario, world, journal) = two_faults(directory.path()).await;
    let lab = world.found.record.uuid;
    for (stopped, open) in [(true, 0), (false, 2)] {
        let (stop, interrupt) = tokio::sync::watch::channel(false);
        let choice = Choice {
            keep: true,
            ..Choice::default()
        };
        let world = World {
            run: format!("r-{stopped}"),
            drivers: world.drivers.clone(),
            layout: world.layout.clone(),
            found: world.found.clone(),
            seed: Seed(5),
            lock: None,
        };
        let stops = async {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            stop.send(stopped).unwrap();
            std::future::pending().await
        };
        let run = Box::pin(scenario::run(
            &scenario, &choice, &world, &journal, &Silent, interrupt,
        ));
        let document = beside(run, stops).await;
        assert_eq!(document.kept.len(), open, "{document:#?}");
        assert_eq!(journal.open_acts(lab).unwrap().len(), open);
    }
}

/// What could not be put back when the run came to it, and is by the time that the lab is well, is not left.
#[tokio::test(start_paused = true)]
async fn what_another_has_put_back_meanwhile_is_not_left() {
    let directory = tempfile::tempdir().unwrap();
    let (scenario, world, journal) = two_faults(directory.path()).await;
    let lab = world.found.record.uuid;
    let other = Journal::open(directory.path(), &world.drivers.clock).unwrap();
    let (hypervisor, target) = (world.drivers.hypervisor.clone(), world.target("a").unwrap());
    let look = || tokio::time::sleep(std::time::Duration::from_millis(100));
    let mends = async {
        while other.open_acts(lab).unwrap().len() < 2 {
            look().await;
        }
        hypervisor
            .domain
            .power(target, PowerAction::Destroy)
            .await
            .unwrap();
        let states = || {
            let open = other.open_acts(lab).unwrap();
            open.into_iter()
                .map(|act| other.act_state(&act.run, act.sequence).unwrap().unwrap())
                .collect::<Vec<_>>()
        };
        while states() != [ActState::Left; 2] {
            look().await;
        }
        hypervisor
            .domain
            .power(target, PowerAction::Start)
            .await
            .unwrap();
        let recovered = loop {
            look().await;
            let recovered = scenario::recover(&world, &other).await.unwrap();
            if recovered.iter().all(|run| run.left.is_empty()) {
                break recovered;
            }
        };
        assert_eq!(recovered[0].undone.len(), 2, "{recovered:?}");
        std::future::pending().await
    };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let run = Box::pin(scenario::run(
        &scenario, &choice, &world, &journal, &Silent, interrupt,
    ));
    let document = beside(run, mends).await;
    assert_eq!(document.left, Vec::<String>::new(), "{document:#?}");
    assert_ne!(document.verdict, Verdict::Dirty, "{document:#?}");
    assert_eq!(journal.open_acts(lab).unwrap(), []);
}

/// Who stands by does nothing to hosts of which a baseline is taken, or that are put back at one.
#[tokio::test(start_paused = true)]
async fn nothing_is_lifted_while_baselines_are_at_work() {
    let directory = tempfile::tempdir().unwrap();
    let (_, world, journal) = two_faults(directory.path()).await;
    let lab = world.found.record.uuid;
    journal.begin_run("r1", (lab, "lab"), "s", 1).unwrap();
    let act = journal.intend_act(&twin::journal::Intent {
        run: "r1",
        variant: "only",
        step: "reserve",
        action: "compute-reserve",
        undo: r#"{"host":"a","reserved_mib":512}"#,
        expires: Some(world.drivers.clock.boot()),
        outside: false,
    });
    let act = act.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let expires = world
        .drivers
        .clock
        .boot()
        .later(std::time::Duration::from_secs(60));
    assert!(journal.lease_act("r1", act, &another(), &expires).unwrap());
    journal
        .mark_act(("r1", act), &another(), ActState::Left, "no answer")
        .unwrap();
    let lifted = async || {
        let grace = std::time::Duration::ZERO;
        let lifted = scenario::lift_overdue(&world, &journal, grace, &|_| false).await;
        lifted.unwrap().undone.len()
    };
    let restore = journal.begin(lab, "restore", "{}").unwrap();
    assert_eq!(lifted().await, 0);
    assert_eq!(journal.act_state("r1", act).unwrap(), Some(ActState::Left));
    journal.end(restore).unwrap();
    assert_eq!(lifted().await, 1);
    assert_eq!(journal.open_acts(lab).unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn b2_a_run_whose_lock_was_taken_away_begins_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let locks = directory.path().join("locks");
    let drivers = SimWorld::new(Seed(3)).drivers();
    let (layout, journal, found) = up(LAB, &drivers, directory.path()).await;
    let source = Source {
        name: "sim-fill.yaml".into(),
        text: SCENARIO.into(),
    };
    let scenario = scenario::parse(&source).unwrap();
    let lab = found.record.uuid;
    let verb = ("scenario", drivers.clock.as_ref());
    let lock = Lock::lab_in(&locks, lab, "simlab", verb).unwrap();
    let world = World {
        drivers,
        layout,
        lock: Some(lock),
        found,
        seed: Seed(5),
        run: "r1".into(),
    };
    let before = world.state("a").await.unwrap();
    std::fs::remove_file(locks.join(lab.to_string())).unwrap();
    let choice = Choice {
        variants: vec!["bug".into()],
        ..Choice::default()
    };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let document = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
    let document = document.unwrap();
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    let why = format!("{:?}", document.worlds[0].variants[0]);
    assert!(why.contains("was taken away while it was held"), "{why}");
    assert_eq!(
        normalised(&before),
        normalised(&world.state("a").await.unwrap())
    );
    assert_eq!(journal.open_acts(lab).unwrap().len(), 0);
}
