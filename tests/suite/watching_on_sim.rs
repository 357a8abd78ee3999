//! How probes look and when a run stops, on the simulated drivers: all the time, at the edges, so often in a row, in the
//! background.

use twin::diagnostics::Source;
use twin::hypervisor::PowerAction;
use twin::journal::Journal;
use twin::lab::Silent;
use twin::scenario::{
    self, Choice, Outcome, ProbeOutcome, ProbeResult, RunResult, Scenario, VariantResult, Verdict,
    World,
};
use twin::sim::{Sabotage, SimWorld};
use twin::units::Seed;

use crate::lab_on_sim::up;
use crate::scenario_on_sim::LAB;
use crate::support::is_on_record;

/// Runs a scenario of these lines; nothing may be left of it.
async fn run(lines: &str, faults: &[Sabotage]) -> RunResult {
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let (scenario, world, journal) = world_of(lines, directory.path(), &sim).await;
    let lab = world.found.record.uuid;
    faults.iter().for_each(|fault| sim.sabotage(*fault));
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let ended = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
    assert_eq!(journal.open_acts(lab).unwrap(), []);
    let result = ended.unwrap();
    is_on_record(&journal, &result);
    result
}

fn variant(document: &RunResult) -> &VariantResult {
    &document.worlds[0].variants[0]
}

fn probe<'d>(document: &'d RunResult, id: &str) -> &'d ProbeResult {
    let mut probes = variant(document).probes.iter();
    probes.find(|probe| probe.id == id).unwrap()
}

fn steps(document: &RunResult) -> Vec<&str> {
    let steps = &variant(document).steps;
    steps.iter().map(|step| step.id.as_str()).collect()
}

/// The database is away for ten seconds, and looked at all the time.
fn away(expect: &str, more: &str, safety: &str, lasts: &str) -> String {
    format!(
        "variants: {{only: {{expect: {{{expect}}}}}}}\n\
         safety: {{baseline: none, {safety}}}\n\
         probes: [{{id: served, tcp: {{address: 10.1.0.10, port: 3306, is: open}}, at: continuous{more}}}]\n\
         steps: [{{id: calm, pause: 5s}}, {{id: stop, do: {{service-stop: {{host: a, service: mysqld}}}}}}, {{id: wait, pause: {lasts}}}]\n\
         observe: 1s\nrecover: {{within: 30s}}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_looks_all_the_time_sees_when_it_is_away() {
    let document = run(&away("served: always", "", "budget: 10m", "10s"), &[]).await;
    assert_eq!(document.verdict, Verdict::Fail, "{document:#?}");
    let why = &variant(&document).why[0];
    assert!(why.starts_with("served missed "), "{why}");
    let served = probe(&document, "served");
    assert_eq!(served.result, ProbeOutcome::Missed);
    let changes: Vec<&str> = served
        .changes
        .iter()
        .map(|change| change.state.as_str())
        .collect();
    assert_eq!(changes, ["held", "missed", "held"], "{served:#?}");
    let lasted = served.changes[2].at_ms - served.changes[1].at_ms;
    assert!((8_000..14_000).contains(&lasted), "{served:#?}");
    assert!((4_000..8_000).contains(&served.changes[1].at_ms));

    let allowed = away("served: always", ", misses: 14", "budget: 10m", "10s");
    let document = run(&allowed, &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    assert_eq!(probe(&document, "served").result, ProbeOutcome::Held);
}

#[tokio::test(start_paused = true)]
async fn a_variant_may_be_observed_for_a_time_of_its_own() {
    let document = run(
        "variants: {short: {expect: {away: never}, observe: 3s}, usual: {expect: {away: never}}}\n\
         safety: {baseline: none}\n\
         probes: [{id: away, tcp: {address: 10.1.0.10, port: 3306, is: refused}}, \
         {id: shorts, tcp: {address: 10.1.0.10, port: 3306, is: open}, since: own}]\n\
         steps: [{id: calm, pause: 1s}, {id: own, pause: 1ms, only: [short]}]\nobserve: 20s\nrecover: {within: 30s}\n",
        &[],
    )
    .await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    let variants = &document.worlds[0].variants;
    let told = |index: usize| variants[index].probes.iter().map(|probe| probe.id.as_str());
    assert_eq!(told(0).collect::<Vec<_>>(), ["away", "shorts"]);
    assert_eq!(
        told(1).collect::<Vec<_>>(),
        ["away"],
        "one of another variant"
    );
    let took = |index: usize| document.worlds[0].variants[index].took_ms;
    assert!((4_000..7_000).contains(&took(0)), "{}", took(0));
    assert!((21_000..26_000).contains(&took(1)), "{}", took(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_condition_ends_the_run_and_puts_everything_back() {
    let stop = "stop: [{probe: served, failures: 4}]";
    let document = run(&away("", "", stop, "20m"), &[]).await;
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    let why = &variant(&document).why[0];
    assert!(
        why.contains("stopped: served missed 4 times in a row"),
        "{why}"
    );
    assert_eq!(steps(&document), ["calm", "stop", "wait", "undo stop"]);
    assert!(variant(&document).recovered);
    assert!(document.took_ms < 30_000, "{}", document.took_ms);
    // One that is never reached changes nothing.
    let stop = "stop: [{probe: served, failures: 40}]";
    let document = run(&away("", "", stop, "10s"), &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_over_its_budget_is_put_back_and_no_pass() {
    let document = run(&away("", "", "budget: 15s", "20m"), &[]).await;
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    assert!(variant(&document).why[0].contains("its budget of 15s is over"));
    assert!(document.took_ms < 30_000, "{}", document.took_ms);
    assert!(variant(&document).recovered);
}

fn edges(port: u16) -> String {
    format!(
        "variants: {{only: {{expect: {{there: fires}}}}}}\nsafety: {{baseline: none}}\n\
         probes: [{{id: there, tcp: {{address: 10.1.0.10, port: {port}, is: open}}, at: edges, times: 2}}]\n\
         steps: [{{id: stop, do: {{service-stop: {{host: a, service: mysqld}}}}}}]\nobserve: 5s\nrecover: {{within: 30s}}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_probe_at_the_edges_holds_before_and_after_or_nothing_is_done() {
    let document = run(&edges(3306), &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    let there = probe(&document, "there");
    assert_eq!(
        (there.result, there.evidence.len()),
        (ProbeOutcome::Fired, 2)
    );

    let document = run(&edges(9), &[]).await;
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    assert_eq!(
        variant(&document).why,
        ["there did not hold before the first step"]
    );
    assert_eq!(variant(&document).outcome, Outcome::Inconclusive);
    assert_eq!(steps(&document), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_to_hold_so_often_in_a_row() {
    let lines = |times: u32| {
        format!(
            "variants: {{only: {{expect: {{gone: fires}}}}}}\nsafety: {{baseline: none}}\n\
             probes: [{{id: gone, tcp: {{address: 10.1.0.10, port: 3306, is: refused}}, times: {times}}}]\n\
             steps: [{{id: stop, do: {{service-stop: {{host: a, service: mysqld}}}}, for: 5s}}, {{id: wait, pause: 10s}}]\n\
             observe: 3s\nrecover: {{within: 30s}}\n"
        )
    };
    let document = run(&lines(3), &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    let fired = probe(&document, "gone").fired_ms.unwrap();
    assert!((2_000..5_000).contains(&fired), "{fired}");
    let document = run(&lines(30), &[]).await;
    assert_eq!(document.verdict, Verdict::Fail, "{document:#?}");
}

/// However many looks fall into that time.
#[tokio::test(start_paused = true)]
async fn e_a_probe_has_to_hold_for_so_long() {
    let lines = |lasts: &str, at: &str| {
        format!(
            "variants: {{only: {{expect: {{gone: fires}}}}}}\nsafety: {{baseline: none}}\n\
             probes: [{{id: gone, tcp: {{address: 10.1.0.10, port: 3306, is: refused}}, for: {lasts}{at}}}]\n\
             steps: [{{id: stop, do: {{service-stop: {{host: a, service: mysqld}}}}, for: 8s}}, {{id: wait, pause: 20s}}]\n\
             observe: 3s\nrecover: {{within: 30s}}\n"
        )
    };
    for at in ["", ", at: continuous"] {
        let document = run(&lines("5s", at), &[]).await;
        assert_eq!(document.verdict, Verdict::Pass, "{at}: {document:#?}");
        let fired = probe(&document, "gone").fired_ms.unwrap();
        assert!((5_000..8_000).contains(&fired), "{at}: {fired}");
        let document = run(&lines("12s", at), &[]).await;
        assert_eq!(document.verdict, Verdict::Fail, "{at}: {document:#?}");
    }
}

/// Runs a scenario that the user interrupts after so many seconds.
async fn interrupted(
    seconds: u64,
    scenario: &Scenario,
    world: &World,
    journal: &Journal,
) -> RunResult {
    let (interrupt, interrupted) = tokio::sync::watch::channel(false);
    let hurry = async {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        interrupt.send_replace(true);
    };
    let choice = Choice::default();
    let run = scenario::run(scenario, &choice, world, journal, &Silent, interrupted);
    let (ended, ()) = tokio::join!(run, hurry);
    ended.unwrap()
}

/// The host is away for as long as the action takes, and there again when it has ended.
#[tokio::test(start_paused = true)]
async fn a_probe_sees_what_happens_while_an_action_is_under_way() {
    let document = run(
        "variants: {only: {expect: {away: fires}}}\nsafety: {baseline: none}\n\
         probes: [{id: away, tcp: {address: 10.1.0.10, port: 3306}}]\n\
         steps: [{id: cycle, do: {host-power: {host: a, power: cycle}}}]\nobserve: 0s\nrecover: {within: 30s}\n",
        &[],
    )
    .await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    let fired = probe(&document, "away").fired_ms.unwrap();
    let cycle = &variant(&document).steps[0];
    assert!(fired <= cycle.at_ms + cycle.took_ms, "{document:#?}");
}

const OFF: &str = "variants: {only: {expect: {}}}\nsafety: {baseline: none}\nprobes: []\n\
    steps:\n  - {id: reserve, do: {compute-reserve: {host: a, memory: 1GiB}}}\n\
    \x20 - {id: autostart, do: {host-autostart: {host: a, autostart: 'on'}}}\n\
    \x20 - {id: off, do: {host-power: {host: a, power: 'off'}}}\nobserve: 0s\nrecover: {within: 30s}\n";

/// What needs no boot does not wait for what does, though it was done before it.
#[tokio::test(start_paused = true)]
async fn an_undo_that_takes_its_time_does_not_hold_up_the_others() {
    let document = run(OFF, &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    let undone = ["undo autostart", "undo off", "undo reserve"];
    assert_eq!(steps(&document)[3..], undone, "{document:#?}");
    let [.., autostart, off, reserve] = variant(&document).steps.as_slice() else {
        panic!("{document:#?}");
    };
    assert!(
        autostart.at_ms >= off.at_ms,
        "the last act is put back first"
    );
    let begun = autostart.at_ms - off.at_ms;
    assert!((900..2_000).contains(&begun), "{document:#?}");
    assert!(reserve.at_ms >= off.at_ms + off.took_ms, "{document:#?}");
}

/// Nor does it for who recovers, or stands by.
#[tokio::test(start_paused = true)]
async fn a_recovery_puts_back_at_once_what_waits_for_no_boot() {
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let (scenario, world, journal) = world_of(OFF, directory.path(), &sim).await;
    let choice = Choice {
        keep: true,
        ..Choice::default()
    };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let kept = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
    assert_eq!(kept.unwrap().kept, ["off", "autostart", "reserve"]);
    let recovered = scenario::recover(&world, &journal).await.unwrap();
    let undone = recovered[0].undone.iter().map(|(step, _)| step.as_str());
    assert_eq!(undone.collect::<Vec<_>>(), ["autostart", "off", "reserve"]);
}

/// A step that puts something back is ended like any other.
#[tokio::test(start_paused = true)]
async fn an_interrupt_does_not_wait_for_a_step_that_boots() {
    let heal = OFF.replace("observe: 0s", "  - {id: heal, undo: off}\nobserve: 0s");
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let (scenario, world, journal) = world_of(&heal, directory.path(), &sim).await;
    let document = interrupted(1, &scenario, &world, &journal).await;
    let why = &variant(&document).why;
    assert!(
        why.contains(&"step heal: interrupted".to_owned()),
        "{why:?}"
    );
    let autostart = variant(&document).steps.iter();
    let autostart = autostart.clone().find(|step| step.id == "undo autostart");
    let at_ms = autostart.unwrap().at_ms;
    assert!((1_000..2_500).contains(&at_ms), "{document:#?}");
    assert_eq!(
        steps(&document)[3..],
        ["undo autostart", "undo off", "undo reserve"]
    );
    let lab = world.found.record.uuid;
    assert_eq!(journal.open_acts(lab).unwrap(), []);
}

/// What nobody could see is not broken.
#[tokio::test(start_paused = true)]
async fn a_probe_that_can_never_look_ends_the_run_before_the_first_step() {
    for at in ["", ", at: continuous"] {
        let lines = BEHIND
            .replace("expect: {}", "expect: {seen: never}")
            .replace(
                "probes: []",
                &format!("probes: [{{id: seen, process: {{host: aa, name: init, is: gone}}{at}}}]"),
            );
        let document = run(&lines, &[]).await;
        assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
        let why = &variant(&document).why[0];
        assert!(
            why.starts_with("seen cannot look: ") && why.contains("aa"),
            "{why}"
        );
        assert_eq!(steps(&document), Vec::<&str>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_the_wait_for_a_steady_state() {
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let (scenario, world, journal) = world_of(BEHIND, directory.path(), &sim).await;
    let target = world.target("a").unwrap();
    let off = world
        .drivers
        .hypervisor
        .domain
        .power(target, PowerAction::Destroy);
    off.await.unwrap();
    let document = interrupted(5, &scenario, &world, &journal).await;
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    assert!(document.took_ms < 6_000, "{}", document.took_ms);
    let why = &variant(&document).why;
    assert_eq!(*why, ["not steady before the first step: interrupted"]);
    assert_eq!(steps(&document), Vec::<&str>::new());
}

const BEHIND: &str = "variants: {only: {expect: {}}}\nsafety: {baseline: none}\nprobes: []\n\
    steps:\n  - {id: touch, do: {instance-touch: {host: a}}, within: 20s, background: true}\n  - {id: wait, pause: 5s}\n\
    \x20 - {id: reserve, do: {compute-reserve: {host: a, memory: 1GiB}}}\nobserve: 1s\nrecover: {within: 30s}\n";

#[tokio::test(start_paused = true)]
async fn a_step_in_the_background_is_not_waited_for_by_the_next_and_is_by_the_last_look() {
    let document = run(BEHIND, &[]).await;
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    assert_eq!(document.worlds[0].variants[0].steps.len(), 5);

    // It has no effect, which shows when its time is over: long after the others.
    let document = run(BEHIND, &[Sabotage::Touch]).await;
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    let names = ["wait", "reserve", "touch", "undo reserve", "undo touch"];
    assert_eq!(steps(&document), names, "{document:#?}");
    let took = &variant(&document).steps[2].took_ms;
    assert!(*took >= 20_000, "{document:#?}");
}

/// A world of the scenario's own lab, with the text parsed.
async fn world_of(
    lines: &str,
    directory: &std::path::Path,
    sim: &SimWorld,
) -> (Scenario, World, Journal) {
    let text = format!("schema: twin/scenario/v1\nname: s\ntitle: T\n{lines}");
    let name = "s.yaml".into();
    let scenario = scenario::parse(&Source { name, text });
    let scenario = scenario.unwrap_or_else(|problems| panic!("{problems:?}"));
    let drivers = sim.drivers();
    let (layout, journal, found) = up(LAB, &drivers, directory).await;
    let world = World {
        drivers,
        layout,
        found,
        seed: Seed(5),
        run: "r1".into(),
        lock: None,
    };
    (scenario, world, journal)
}

/// A user who is in a hurry is not kept waiting by what goes on in the background.
#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_what_goes_on_in_the_background() {
    let lines = BEHIND
        .replace("within: 20s", "within: 10m")
        .replace("  - {id: wait, pause: 5s}\n", "");
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    let (scenario, world, journal) = world_of(&lines, directory.path(), &sim).await;
    // It never takes effect, and is waited for once the other step has ended.
    sim.sabotage(Sabotage::Touch);
    let document = interrupted(30, &scenario, &world, &journal).await;
    assert_eq!(document.verdict, Verdict::Inconclusive, "{document:#?}");
    assert!(document.took_ms < 60_000, "{}", document.took_ms);
    let lab = world.found.record.uuid;
    assert_eq!(journal.open_acts(lab).unwrap(), []);
}

/// The fault stands while nothing else is waited for.
#[tokio::test(start_paused = true)]
async fn a_fault_is_watched_for_the_whole_time_by_what_looks_all_the_time() {
    let text = away("served: always", "", "budget: 10m", "10s")
        .replace(", {id: wait, pause: 10s}", "")
        .replace("observe: 1s", "observe: 20s");
    let document = run(&text, &[]).await;
    assert_eq!(document.verdict, Verdict::Fail, "{document:#?}");
    assert!(probe(&document, "served").missed_in_row > 0);
}

#[tokio::test(start_paused = true)]
async fn safety_or_what_is_watched_that_names_no_host_of_the_lab_is_refused() {
    let watched = away("", "", "budget: 1m", "1s") + "watch: [nobody]\n";
    for lines in [away("", "", "protect: [nobody]", "1s"), watched] {
        let directory = tempfile::tempdir().unwrap();
        let sim = SimWorld::new(Seed(3));
        let (scenario, world, journal) = world_of(&lines, directory.path(), &sim).await;
        let (_keep, interrupt) = tokio::sync::watch::channel(false);
        let choice = Choice::default();
        let refused = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
        let why = refused.err().unwrap().to_string();
        assert!(why.contains("nobody"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_says_which_hosts_it_acts_on() {
    let document = run(BEHIND, &[]).await;
    let [target] = variant(&document).targets.as_slice() else {
        panic!("{document:#?}");
    };
    assert_eq!(
        (target.host.as_str(), target.domain.as_str()),
        ("a", "simlab-a")
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_and_who_stands_by_put_the_same_back_once() {
    let directory = tempfile::tempdir().unwrap();
    let sim = SimWorld::new(Seed(3));
    // So many that putting them back takes longer than the time between two looks of the run.
    let steps: Vec<String> = (1..=90)
        .map(|index| {
            let reserve = format!("compute-reserve: {{host: a, memory: {index}MiB}}");
            format!("  - {{id: reserve-{index}, do: {{{reserve}}}, for: 9s}}\n")
        })
        .collect();
    let lines = format!(
        "variants: {{only: {{expect: {{}}}}}}\nsafety: {{baseline: none}}\nprobes: []\nsteps:\n{}\
         \x20 - {{id: wait, pause: 20s}}\nobserve: 1s\n",
        steps.concat()
    );
    let (scenario, world, journal) = world_of(&lines, directory.path(), &sim).await;
    let lab = world.found.record.uuid;
    // Each has a connection of its own, as two processes have.
    let other = Journal::open(directory.path(), &world.drivers.clock).unwrap();
    let lifting = async || -> std::convert::Infallible {
        loop {
            let lifted =
                scenario::lift_overdue(&world, &other, std::time::Duration::ZERO, &|_| false).await;
            assert_eq!(lifted.unwrap().left, vec![]);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let begun = sim.asked().len();
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let document = tokio::select! {
        ended = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt) => ended.unwrap(),
        never = lifting() => match never {},
    };
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    let asked = &sim.asked()[begun..];
    assert_eq!(
        asked.len(),
        2 * steps.len(),
        "each done and undone once: {asked:?}"
    );
    assert_eq!(journal.open_acts(lab).unwrap(), []);
    assert_eq!(world.state("a").await.unwrap().reserved_mib, Some(512));
}
