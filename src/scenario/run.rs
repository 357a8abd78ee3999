//! Running a scenario: its variants one after the other. One loop owns the state; everything it does to the lab goes through
//! actions and their undos.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::engine::{Choice, Engine, targets};
use super::events::{Begun, EVENTS, RunEvent, RunWatch};
use super::file::{Resolved, Scenario, Variant};
use super::record::Record;
use super::result::{Outcome, RunResult, VariantResult, Verdict};
use super::{ScenarioError, World};
use crate::journal::Journal;
use crate::lab::{Event, LabError, Standing};

/// Runs a scenario's variants one after the other and puts everything back after each. Turning `interrupt` true ends the
/// step under way and goes on with the undo. The lab's lock is the caller's.
pub async fn run(
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
    journal: &Journal,
    watch: &dyn RunWatch,
    interrupt: watch::Receiver<bool>,
) -> Result<RunResult, ScenarioError> {
    may_begin(world, Some(journal))?;
    let record = &world.found.record;
    let resolved = resolve(scenario, choice, world)?;
    if choice.keep && resolved.len() != 1 {
        return Err(ScenarioError::KeepOne {
            count: resolved.len(),
        });
    }
    for variant in &resolved {
        for name in variant.named().chain(&variant.watch) {
            world.found.host(name)?;
        }
        targets(world, variant)?;
    }
    // Should this process die, the watchdog reverts what it did.
    let standing = stand_by(world)?;
    journal.begin_run(
        &world.run,
        (record.uuid, record.name.as_str()),
        scenario.name.as_str(),
        world.seed.0,
    )?;
    let (started, started_at) = (world.drivers.clock.elapsed(), world.drivers.clock.now());
    let begun = begun(scenario, world, &started_at.to_string());
    let engine = Engine {
        scenario,
        choice,
        world,
        journal,
        watch,
        record: Mutex::new(Record::new(&begun)),
        interrupt,
        stop: watch::Sender::new(None),
    };
    engine.happens(RunEvent::RunBegun(begun));
    engine.variants(&resolved, started).await;
    let record = engine.record.into_inner();
    let (result, failure) = record.unwrap_or_else(PoisonError::into_inner).end();
    match failure {
        None => standing.release(),
        // The watchdog looks once more, then.
        Some(error) => watch.tell(Event::Note(&format!("this run is not on record: {error}"))),
    }
    Ok(result)
}

/// What is known of a run when it begins.
fn begun(scenario: &Scenario, world: &World, started_at: &str) -> Begun {
    Begun {
        schema: EVENTS.into(),
        run: world.run.clone(),
        scenario: scenario.name.to_string(),
        title: scenario.title.clone(),
        seed: world.seed.0,
        time_scale: world.found.record.time_scale,
        world: "lab".into(),
        stand_ins: scenario.stand_ins.clone(),
        started_at: started_at.to_owned(),
    }
}

impl Engine<'_> {
    /// Runs the variants, until one cannot be reverted or the user interrupts, and ends the run.
    async fn variants(&self, resolved: &[Resolved], started: Duration) {
        let (mut left, mut kept) = (Vec::new(), Vec::new());
        let mut reference = None;
        for variant in resolved {
            self.happens(RunEvent::VariantBegun {
                variant: variant.name.clone(),
                targets: targets(self.world, variant).unwrap_or_default(),
            });
            let tested = self.variant(variant, &mut reference).await;
            left.extend(tested.left);
            kept.extend(tested.kept);
            if !left.is_empty() || *self.interrupt.borrow() {
                break;
            }
        }
        let recovered = |variant: &VariantResult| variant.recovered;
        let whole = left.is_empty() && self.record().variants().iter().all(recovered);
        let baseline = self.end_with(reference, whole, &mut left).await;
        let verdict = verdict(self.record().variants(), &left);
        self.happens(RunEvent::RunEnded {
            verdict,
            left,
            kept,
            baseline,
            took_ms: self.world.since(started),
        });
    }
}

/// Refuses a run where runs are halted, or something of an earlier one is not put back.
pub fn may_begin(world: &World, journal: Option<&Journal>) -> Result<(), ScenarioError> {
    if let Some(since) = world.layout.halted() {
        return Err(ScenarioError::Halted { since });
    }
    let lab = world.found.record.uuid;
    let Some(journal) = journal else {
        return Ok(());
    };
    let acts = journal.open_acts(lab)?;
    let acts = acts
        .iter()
        .map(|act| format!("{} of run {}", act.step, act.run));
    let unfinished = journal.unfinished(lab)?;
    let unfinished = unfinished.iter().map(|operation| operation.verb.clone());
    let open: Vec<String> = acts.chain(unfinished).collect();
    if open.is_empty() {
        Ok(())
    } else {
        Err(ScenarioError::Dirty { open })
    }
}

fn stand_by(world: &World) -> Result<Box<dyn Standing>, ScenarioError> {
    let called = world
        .drivers
        .guardian
        .stand_by(world.found.record.name.as_str(), world.layout.state());
    called.map_err(|error| {
        let failed = LabError::io("starting the watchdog".to_owned());
        ScenarioError::Lab(failed(error))
    })
}

/// The variants that are chosen: those of these names, or all.
pub fn chosen<'s>(
    scenario: &'s Scenario,
    names: &[String],
) -> Result<Vec<&'s Variant>, ScenarioError> {
    let known = scenario.variants.iter().map(|variant| variant.name.clone());
    let known: Vec<String> = known.collect();
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        let name = name.clone();
        return Err(ScenarioError::NoVariant { name, known });
    }
    let all = scenario.variants.iter();
    let chosen = all.filter(|variant| names.is_empty() || names.contains(&variant.name));
    Ok(chosen.collect())
}

fn resolve(
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
) -> Result<Vec<Resolved>, ScenarioError> {
    let chosen = chosen(scenario, &choice.variants)?.into_iter();
    let resolved = chosen.map(|variant| scenario.resolve(variant, &choice.set, world));
    resolved
        .collect::<Result<_, _>>()
        .map_err(|problems| ScenarioError::Invalid { problems })
}

fn verdict(variants: &[VariantResult], left: &[String]) -> Verdict {
    let any = |outcome: Outcome| variants.iter().any(|variant| variant.outcome == outcome);
    if !left.is_empty() {
        Verdict::Dirty
    } else if any(Outcome::Unexpected) {
        Verdict::Fail
    } else if any(Outcome::Inconclusive) || variants.is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}
