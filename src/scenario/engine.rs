//! Running a scenario. One loop owns the state; everything it does to the lab goes through actions and their undos.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::file::{Expect, Resolved, ResolvedStep, Scenario};
use super::probe::{Finding, Seen};
use super::{ScenarioError, World, recovery, undo};
use crate::journal::{ActState, Journal};
use crate::lab::{Event, Watch};
use crate::report::{
    EvidenceDocument, Outcome, ProbeDocument, ScenarioDocument, ScenarioStepDocument,
    VariantDocument, Verdict, WorldDocument,
};
use crate::snapshot::SelfTest;

/// How often probes are asked.
const LOOK: Duration = Duration::from_secs(1);

/// What an action may take beyond its own deadline, which it keeps itself, before it is given up.
const GRACE: Duration = Duration::from_secs(60);

/// What of a scenario is run, and how.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The variants; all when empty.
    pub variants: Vec<String>,
    /// Variables that the operator set.
    pub set: BTreeMap<String, String>,
    /// Whether the run's baseline is restored where its undo is not enough.
    pub restore_on_failure: bool,
    /// What is known of memory in files on this machine, for the run's baseline.
    pub self_test: Option<SelfTest>,
}

pub(super) struct Engine<'e> {
    pub(super) scenario: &'e Scenario,
    pub(super) choice: &'e Choice,
    pub(super) world: &'e World,
    pub(super) journal: &'e Journal,
    pub(super) watch: &'e dyn Watch,
    pub(super) interrupt: watch::Receiver<bool>,
}

/// What a variant's steps came to.
#[derive(Default)]
struct Injection {
    steps: Vec<ScenarioStepDocument>,
    /// Why not every action took effect; empty when all did.
    troubles: Vec<String>,
    seen: Seen,
}

/// A probe while it is watched.
struct Watched<'p> {
    id: &'p str,
    probe: &'p dyn super::probe::Probe,
    expected: Option<Expect>,
    begun: Result<serde_json::Value, String>,
    fired: Option<Vec<EvidenceDocument>>,
    trouble: Option<String>,
}

/// Runs a scenario's variants one after the other and puts everything back after each. Turning `interrupt` true ends the
/// step under way and goes on with the undo. The lab's lock is the caller's.
pub async fn run(
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
    journal: &Journal,
    watch: &dyn Watch,
    interrupt: watch::Receiver<bool>,
) -> Result<ScenarioDocument, ScenarioError> {
    let record = &world.found.record;
    let mut open: Vec<String> = journal
        .open_acts(record.uuid)?
        .iter()
        .map(|act| format!("{} of run {}", act.step, act.run))
        .collect();
    let unfinished = journal.unfinished(record.uuid)?;
    open.extend(unfinished.iter().map(|operation| operation.verb.clone()));
    if !open.is_empty() {
        return Err(ScenarioError::Dirty { open });
    }
    let resolved = resolve(scenario, choice, world)?;
    journal.begin_run(
        &world.run,
        record.uuid,
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
    };
    let (mut variants, mut left, mut reference) = (Vec::new(), Vec::new(), None);
    for variant in &resolved {
        watch.tell(Event::Note(&format!("variant {}", variant.name)));
        let (document, unrecovered) = engine.variant(variant, &mut reference).await?;
        variants.push(document);
        left.extend(unrecovered);
        if !left.is_empty() || *engine.interrupt.borrow() {
            break;
        }
    }
    let whole = left.is_empty() && variants.iter().all(|variant| variant.recovered);
    let baseline = engine.end_with(reference, whole).await;
    let document = ScenarioDocument {
        schema: "twin/scenario-result/v1".into(),
        run: world.run.clone(),
        scenario: scenario.name.to_string(),
        title: scenario.title.clone(),
        seed: world.seed.0,
        agreement: None,
        verdict: verdict(&variants, &left),
        worlds: vec![WorldDocument {
            world: "lab".into(),
            variants,
        }],
        stand_ins: scenario.stand_ins.clone(),
        left,
        baseline,
        started_at: started_at.to_string(),
        took_ms: since(world, started),
    };
    journal.end_run(
        &world.run,
        document.verdict.as_str(),
        &serde_json::to_string(&document).unwrap_or_default(),
    )?;
    Ok(document)
}

fn resolve(
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
) -> Result<Vec<Resolved>, ScenarioError> {
    let known = || {
        scenario
            .variants
            .iter()
            .map(|variant| variant.name.clone())
            .collect::<Vec<_>>()
    };
    if let Some(name) = choice.variants.iter().find(|name| !known().contains(name)) {
        return Err(ScenarioError::NoVariant {
            name: name.clone(),
            known: known(),
        });
    }
    let chosen = scenario
        .variants
        .iter()
        .filter(|variant| choice.variants.is_empty() || choice.variants.contains(&variant.name));
    let resolved =
        chosen.map(|variant| scenario.resolve(variant, &choice.set, &|name| world.variable(name)));
    resolved
        .collect::<Result<_, _>>()
        .map_err(|problems| ScenarioError::Invalid { problems })
}

fn verdict(variants: &[VariantDocument], left: &[String]) -> Verdict {
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

pub(super) fn since(world: &World, started: Duration) -> u64 {
    u64::try_from(
        world
            .drivers
            .clock
            .elapsed()
            .saturating_sub(started)
            .as_millis(),
    )
    .unwrap_or(u64::MAX)
}

impl Engine<'_> {
    /// Runs one variant; returns what happened and what could not be put back.
    async fn variant(
        &self,
        variant: &Resolved,
        reference: &mut Option<String>,
    ) -> Result<(VariantDocument, Vec<String>), ScenarioError> {
        let started = self.world.drivers.clock.elapsed();
        self.note("waiting for a steady state");
        let steady = recovery::well(self.world, None, self.scenario.steady_within).await;
        let before = recovery::instances(self.world).await;
        let (Ok(()), Ok(before)) = (&steady, before) else {
            let why = steady
                .err()
                .unwrap_or_else(|| vec!["the instances cannot be read".into()]);
            let why = why
                .into_iter()
                .map(|ill| format!("not steady before the first step: {ill}"))
                .collect();
            return Ok((
                self.document(variant, Outcome::Inconclusive, why, started),
                Vec::new(),
            ));
        };
        if let Err(why) = self.reference(reference).await {
            let document = self.document(variant, Outcome::Inconclusive, vec![why], started);
            return Ok((document, Vec::new()));
        }
        let mut probes = self.begin_probes(variant).await;
        let mut injection = self.inject(variant).await?;
        if injection.troubles.is_empty() {
            self.note("observing");
            self.observe(&mut probes, &injection.seen, started).await;
        } else {
            // One look, for the report.
            self.look(&mut probes, &injection.seen).await;
        }
        let undone_from = self.world.drivers.clock.elapsed();
        let mut left = self.undo(&mut injection.steps).await?;
        self.note("waiting for recovery");
        let recovered =
            recovery::well(self.world, Some(&before), self.scenario.recover_within).await;
        let mttr_ms = recovered.is_ok().then(|| since(self.world, undone_from));
        let recovered = match (recovered, &*reference) {
            (Ok(()), Some(name)) => self.as_before(name).await,
            (recovered, _) => recovered,
        };
        let mut whole = recovered.is_ok() && left.is_empty();
        if let Some(name) = reference
            .as_deref()
            .filter(|_| !whole && self.choice.restore_on_failure)
        {
            whole = self
                .last_resort(name, &mut injection.steps, &mut left)
                .await;
        }
        let (outcome, mut why) = judge(&probes, &injection.troubles, &recovered);
        if *self.interrupt.borrow() {
            why.insert(0, "interrupted".into());
        }
        let outcome = if *self.interrupt.borrow() {
            Outcome::Inconclusive
        } else {
            outcome
        };
        let mut document = self.document(variant, outcome, why, started);
        document.injected = injection.troubles.is_empty();
        document.recovered = whole;
        document.mttr_ms = mttr_ms;
        document.steps = injection.steps;
        document.probes = self.probe_documents(&variant.name, probes)?;
        Ok((document, left))
    }

    fn document(
        &self,
        variant: &Resolved,
        outcome: Outcome,
        why: Vec<String>,
        started: Duration,
    ) -> VariantDocument {
        VariantDocument {
            name: variant.name.clone(),
            outcome,
            why,
            injected: false,
            recovered: true,
            mttr_ms: None,
            probes: Vec::new(),
            steps: Vec::new(),
            took_ms: since(self.world, started),
        }
    }

    pub(super) fn note(&self, what: &str) {
        self.watch.tell(Event::Note(&format!("  {what}")));
    }

    async fn begin_probes<'p>(&self, variant: &'p Resolved) -> Vec<Watched<'p>> {
        let mut watched = Vec::new();
        for (id, probe) in &variant.probes {
            let begun = probe
                .begin(self.world)
                .await
                .map_err(|error| error.to_string());
            let expected = variant
                .expect
                .iter()
                .find(|(expected, _)| expected == id)
                .map(|(_, expected)| *expected);
            watched.push(Watched {
                id,
                probe: probe.as_ref(),
                expected,
                begun,
                fired: None,
                trouble: None,
            });
        }
        watched
    }

    /// Does the steps, until one has no effect.
    async fn inject(&self, variant: &Resolved) -> Result<Injection, ScenarioError> {
        let mut injection = Injection::default();
        for step in &variant.steps {
            self.note(&step.action.describe());
            let started = self.world.drivers.clock.elapsed();
            let (result, detail, refused) = self.step(&variant.name, step).await?;
            injection.steps.push(ScenarioStepDocument {
                id: step.id.clone(),
                what: step.action.describe(),
                result: result.to_owned(),
                detail: detail.clone(),
                took_ms: since(self.world, started),
            });
            injection
                .seen
                .refused
                .extend(refused.map(|refused| (step.id.clone(), refused)));
            if result != "verified" {
                injection
                    .troubles
                    .push(format!("step {}: {detail}", step.id));
                break;
            }
        }
        Ok(injection)
    }

    /// One step: capture, intent, act, verify. Returns its result's word, what was seen, and what was refused.
    async fn step(
        &self,
        variant: &str,
        step: &ResolvedStep,
    ) -> Result<(&'static str, String, Option<String>), ScenarioError> {
        let world = self.world;
        if *self.interrupt.borrow() {
            return Ok(("failed", "interrupted".into(), None));
        }
        let captured = match step.action.capture(world).await {
            Ok(captured) => captured,
            Err(error) => return Ok(("failed", format!("nothing was done: {error}"), None)),
        };
        let sequence = self.journal.intend_act(
            &world.run,
            variant,
            &step.id,
            step.action.name(),
            &captured.to_string(),
        )?;
        let mut interrupt = self.interrupt.clone();
        let acted = tokio::select! {
            acted = tokio::time::timeout(step.within + GRACE, step.action.act(world, &captured, step.within)) => acted,
            _ = interrupt.wait_for(|interrupted| *interrupted) => return Ok(("failed", "interrupted".into(), None)),
        };
        match acted {
            Ok(Ok(())) => self
                .journal
                .mark_act(&world.run, sequence, ActState::Acted, None)?,
            Ok(Err(error)) => return Ok(("failed", error.to_string(), None)),
            Err(_) => {
                return Ok((
                    "failed",
                    format!("no end within {:?}", step.within + GRACE),
                    None,
                ));
            }
        }
        match step.action.verify(world, &captured).await {
            Ok(verified) if verified.effective => Ok(("verified", verified.seen, verified.refused)),
            Ok(verified) => Ok((
                "no-effect",
                format!("it did not take effect: {}", verified.seen),
                verified.refused,
            )),
            Err(error) => Ok((
                "failed",
                format!("nobody can tell whether it took effect: {error}"),
                None,
            )),
        }
    }

    /// Watches the probes until everything that should fire has; for the whole time where something should not.
    async fn observe(&self, probes: &mut [Watched<'_>], seen: &Seen, started: Duration) {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + self.scenario.observe;
        let budget = started + self.scenario.budget;
        let whole = probes
            .iter()
            .any(|probe| probe.expected == Some(Expect::Never));
        loop {
            self.look(probes, seen).await;
            let missing = probes
                .iter()
                .any(|probe| probe.expected == Some(Expect::Fires) && probe.fired.is_none());
            let wrong = probes
                .iter()
                .any(|probe| probe.expected == Some(Expect::Never) && probe.fired.is_some());
            let now = clock.elapsed();
            if now >= until
                || now >= budget
                || wrong
                || (!missing && !whole)
                || *self.interrupt.borrow()
            {
                return;
            }
            clock.sleep(LOOK).await;
        }
    }

    async fn look(&self, probes: &mut [Watched<'_>], seen: &Seen) {
        for probe in probes.iter_mut().filter(|probe| probe.fired.is_none()) {
            let looked = match &probe.begun {
                Ok(begun) => probe
                    .probe
                    .look(self.world, begun, seen)
                    .await
                    .map_err(|error| error.to_string()),
                Err(why) => Err(why.clone()),
            };
            match looked {
                Ok(Finding::Fired(evidence)) => {
                    (probe.fired, probe.trouble) = (Some(evidence), None);
                }
                Ok(Finding::Quiet) => probe.trouble = None,
                Err(why) => probe.trouble = Some(why),
            }
        }
    }

    /// Undoes what the run has open, and adds it to the steps; returns what is left.
    async fn undo(
        &self,
        steps: &mut Vec<ScenarioStepDocument>,
    ) -> Result<Vec<String>, ScenarioError> {
        self.note("undoing");
        let started = self.world.drivers.clock.elapsed();
        let open = self.journal.open_acts(self.world.found.record.uuid)?;
        let recovered = undo::undo_all(
            self.world,
            self.journal,
            &open,
            &format!("run {}", std::process::id()),
        )
        .await?;
        let took_ms = since(self.world, started);
        let step = |id: &String, what: &str, result: &str, detail: &String| ScenarioStepDocument {
            id: format!("undo {id}"),
            what: what.to_owned(),
            result: result.to_owned(),
            detail: detail.clone(),
            took_ms,
        };
        steps.extend(
            recovered
                .undone
                .iter()
                .map(|(id, done)| step(id, "put back", "undone", done)),
        );
        steps.extend(
            recovered
                .left
                .iter()
                .map(|(id, why)| step(id, "put back", "left", why)),
        );
        Ok(recovered
            .left
            .iter()
            .map(|(id, why)| format!("{id}: {why}"))
            .collect())
    }

    fn probe_documents(
        &self,
        variant: &str,
        probes: Vec<Watched<'_>>,
    ) -> Result<Vec<ProbeDocument>, ScenarioError> {
        let mut documents = Vec::new();
        for probe in probes {
            let result = match (&probe.fired, &probe.trouble) {
                (Some(_), _) => "fired",
                (None, None) => "quiet",
                (None, Some(_)) => "unknown",
            };
            let trouble = probe.trouble.map(|why| EvidenceDocument {
                source: "could not look".into(),
                text: why,
            });
            let evidence: Vec<EvidenceDocument> = probe
                .fired
                .unwrap_or_default()
                .into_iter()
                .chain(trouble)
                .collect();
            for piece in &evidence {
                self.journal.keep_evidence(
                    &self.world.run,
                    variant,
                    probe.id,
                    &piece.source,
                    &piece.text,
                )?;
            }
            let expected = probe.expected.map(|expected| expected.as_str().to_owned());
            documents.push(ProbeDocument {
                id: probe.id.to_owned(),
                expected,
                result: result.to_owned(),
                evidence,
            });
        }
        Ok(documents)
    }
}

/// Judges a variant: an action without effect, or a probe that could not look, leaves it open whatever else was seen.
fn judge(
    probes: &[Watched<'_>],
    troubles: &[String],
    recovered: &Result<(), Vec<String>>,
) -> (Outcome, Vec<String>) {
    if !troubles.is_empty() {
        return (Outcome::Inconclusive, troubles.to_vec());
    }
    let (mut blind, mut wrong) = (Vec::new(), Vec::new());
    for probe in probes {
        match (probe.expected, &probe.fired, &probe.trouble) {
            (Some(Expect::Never), Some(_), _) => {
                wrong.push(format!("{} fired, and never should", probe.id));
            }
            (Some(_), None, Some(why)) => blind.push(format!("{} could not look: {why}", probe.id)),
            (Some(Expect::Fires), None, None) => wrong.push(format!("{} did not fire", probe.id)),
            _ => {}
        }
    }
    if let Err(ill) = recovered {
        wrong.extend(ill.iter().map(|ill| format!("not recovered: {ill}")));
    }
    let outcome = match (wrong.is_empty(), blind.is_empty()) {
        (false, _) => Outcome::Unexpected,
        (true, false) => Outcome::Inconclusive,
        (true, true) => Outcome::AsExpected,
    };
    wrong.extend(blind);
    (outcome, wrong)
}
