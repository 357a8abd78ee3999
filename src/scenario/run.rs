//! Running a scenario: its variants one after the other. One loop owns the state; everything it does to the lab goes through
//! actions and their undos.

use tokio::sync::watch;

use super::engine::{Choice, Engine, targets};
use super::file::{Resolved, Scenario, Variant};
use super::result::{Outcome, RunResult, TargetHost, VariantResult, Verdict, WorldResult};
use super::{ScenarioError, World};
use crate::journal::Journal;
use crate::lab::{Event, LabError, Standing, Watch};

/// Runs a scenario's variants one after the other and puts everything back after each. Turning `interrupt` true ends the
/// step under way and goes on with the undo. The lab's lock is the caller's.
pub async fn run(
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
    journal: &Journal,
    watch: &dyn Watch,
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
        for name in variant.named.iter().chain(&variant.watch) {
            world.found.host(name)?;
        }
    }
    // Should this process die, somebody else puts back what it did.
    let standing = stand_by(world)?;
    journal.begin_run(
        &world.run,
        (record.uuid, record.name.as_str()),
        scenario.name.as_str(),
        world.seed.0,
    )?;
    let (started, started_at) = (world.drivers.clock.elapsed(), world.drivers.clock.now());
    let engine = Engine {
        scenario,
        choice,
        world,
        journal,
        watch,
        interrupt,
        stop: watch::Sender::new(None),
    };
    let (mut variants, mut left, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut reference = None;
    for variant in &resolved {
        watch.tell(Event::Note(&format!("variant {}", variant.name)));
        for target in targets(world, variant)? {
            let TargetHost { host, domain, uuid } = target;
            watch.tell(Event::Note(&format!(
                "  acts on {host}: domain {domain}, {uuid}"
            )));
        }
        let tested = engine.variant(variant, &mut reference).await;
        variants.push(tested.document);
        left.extend(tested.left);
        kept.extend(tested.kept);
        if !left.is_empty() || *engine.interrupt.borrow() {
            break;
        }
    }
    let whole = left.is_empty() && variants.iter().all(|variant| variant.recovered);
    let baseline = engine.end_with(reference, whole, &mut left).await;
    let document = RunResult {
        schema: "twin/scenario-result/v1".into(),
        run: world.run.clone(),
        scenario: scenario.name.to_string(),
        title: scenario.title.clone(),
        seed: world.seed.0,
        time_scale: Some(world.found.record.time_scale),
        agreement: None,
        verdict: verdict(&variants, &left),
        worlds: vec![WorldResult {
            world: "lab".into(),
            variants,
        }],
        stand_ins: scenario.stand_ins.clone(),
        left,
        kept,
        baseline,
        started_at: started_at.to_string(),
        took_ms: world.since(started),
    };
    let ended = journal.end_run(
        &world.run,
        document.verdict.as_str(),
        &serde_json::to_string(&document).unwrap_or_default(),
    );
    match ended {
        Ok(()) => standing.release(),
        // Who stands by looks once more, then.
        Err(error) => watch.tell(Event::Note(&format!("this run is not on record: {error}"))),
    }
    Ok(document)
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
        let failed = LabError::io("calling somebody to stand by the run".to_owned());
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
