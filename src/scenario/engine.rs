//! Running a scenario. One loop owns the state; everything it does to the lab goes through actions and their undos.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::continuous::Continuous;
use super::file::{Resolved, Scenario, Variant};
use super::inject::Injection;
use super::sampling::Samples;
use super::watching::{Watched, judge};
use super::{ScenarioError, World, recovery};
use crate::journal::Journal;
use crate::lab::{Event, LabError, Standing, Watch};
use crate::report::{
    Outcome, ScenarioDocument, TargetDocument, VariantDocument, Verdict, WorldDocument,
};
use crate::snapshot::SelfTest;

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
    /// Whether the failure is left in place, to be looked at.
    pub keep: bool,
}

/// What recovery may take once the user has interrupted while it was waited for.
const HURRIED: Duration = Duration::from_secs(10);

pub(super) struct Engine<'e> {
    pub(super) scenario: &'e Scenario,
    pub(super) choice: &'e Choice,
    pub(super) world: &'e World,
    pub(super) journal: &'e Journal,
    pub(super) watch: &'e dyn Watch,
    pub(super) interrupt: watch::Receiver<bool>,
    /// Why the variant is stopped, once a stop condition holds.
    stop: watch::Sender<Option<String>>,
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
            let TargetDocument { host, domain, uuid } = target;
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
    let document = ScenarioDocument {
        schema: "twin/scenario-result/v1".into(),
        run: world.run.clone(),
        scenario: scenario.name.to_string(),
        title: scenario.title.clone(),
        seed: world.seed.0,
        time_scale: Some(world.found.record.time_scale),
        agreement: None,
        verdict: verdict(&variants, &left),
        worlds: vec![WorldDocument {
            world: "lab".into(),
            variants,
        }],
        stand_ins: scenario.stand_ins.clone(),
        left,
        kept,
        baseline,
        started_at: started_at.to_string(),
        took_ms: since(world, started),
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

/// The hosts that a variant acts on, as they were found when the run began.
pub(super) fn targets(
    world: &World,
    variant: &Resolved,
) -> Result<Vec<TargetDocument>, ScenarioError> {
    let target = |name: &String| {
        let host = world.found.host(name)?;
        Ok(TargetDocument {
            host: name.clone(),
            domain: host.spec.name.clone(),
            uuid: host.spec.uuid.to_string(),
        })
    };
    variant.targets.iter().map(target).collect()
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

/// What came of a variant.
struct Tested {
    document: VariantDocument,
    /// What could not be put back.
    left: Vec<String>,
    /// What was left in place, because the user asked for it.
    kept: Vec<String>,
}

impl Tested {
    const fn put_back(document: VariantDocument, left: Vec<String>) -> Self {
        let kept = Vec::new();
        Self {
            document,
            left,
            kept,
        }
    }
}

/// When a variant was begun, and when its first look was.
#[derive(Clone, Copy)]
struct Times {
    started: Duration,
    begun: Duration,
}

impl Engine<'_> {
    /// Runs one variant.
    async fn variant(&self, variant: &Resolved, reference: &mut Option<String>) -> Tested {
        let started = self.world.drivers.clock.elapsed();
        self.note("waiting for a steady state");
        let steady = recovery::well(self.world, None, self.scenario.steady_within);
        let steady = self.unless_interrupted(Duration::ZERO, steady).await;
        let steady = steady.unwrap_or_else(|| Err(vec!["interrupted".into()]));
        let before = recovery::instances(self.world).await;
        let (Ok(()), Ok(before)) = (&steady, before) else {
            let why = steady
                .err()
                .unwrap_or_else(|| vec!["the instances cannot be read".into()]);
            let why = why
                .into_iter()
                .map(|ill| format!("not steady before the first step: {ill}"))
                .collect();
            let document = self.document(variant, Outcome::Inconclusive, why, started);
            return Tested::put_back(document, Vec::new());
        };
        let taken = self.reference(reference).await;
        let begun = self.world.drivers.clock.elapsed();
        if let Err(why) = taken {
            let mut document = self.document(variant, Outcome::Inconclusive, vec![why], started);
            // The clocks may be behind by what the hosts stood still, and the baseline half taken.
            let mut left = self.drop_declared().await;
            left.extend(self.put_back(&mut document.steps, None, begun).await);
            document.recovered = left.is_empty();
            return Tested::put_back(document, left);
        }
        self.stop.send_replace(None);
        let (samples, continuous) = (Samples::default(), Continuous::new(variant));
        tokio::select! {
            () = continuous.begin(self.world, begun) => {}
            // The steps see to it.
            _ = self.end(begun) => {}
        }
        let times = Times { started, begun };
        let tested = self.tested(variant, &before, reference, &continuous, times);
        let mut tested = tokio::select! {
            tested = tested => tested,
            never = samples.follow(self.world, &variant.watch, begun) => match never {},
            never = continuous.follow(self.world, &variant.stop, &self.stop, begun) => match never {},
        };
        tested.document.samples = samples.take();
        tested
    }

    /// The variant itself, from the first look to the last, in a lab that is steady.
    async fn tested(
        &self,
        variant: &Resolved,
        before: &recovery::Instances,
        reference: &mut Option<String>,
        continuous: &Continuous<'_>,
        Times { started, begun }: Times,
    ) -> Tested {
        let mut probes = self.begin_probes(variant, begun).await;
        let mut injection = Injection::default();
        // What cannot be written down ends it, and is put back like the rest.
        if let Err(error) = self
            .inject_and_observe(variant, &mut probes, continuous, &mut injection, begun)
            .await
        {
            injection.troubles.push(error.to_string());
        }
        if !injection.troubles.is_empty() {
            // One look, for the report.
            self.look(&mut probes, &injection.seen, begun).await;
        }
        // What has been stopped, by hand or for safety's sake, is put back all the same.
        if self.choice.keep
            && self.ends(begun).is_none()
            && let Ok(open) = self.journal.open_acts(self.world.found.record.uuid)
        {
            let (outcome, mut why) = judge(&probes, continuous, &injection.troubles, &Ok(()));
            let probes = self.probe_documents(&variant.name, probes, continuous, &mut why);
            let mut document = self.document(variant, outcome, why, started);
            document.injected = injection.troubles.is_empty();
            document.recovered = false;
            document.steps = injection.steps;
            document.probes = probes;
            return Tested {
                document,
                left: Vec::new(),
                kept: open.into_iter().map(|act| act.step).collect(),
            };
        }
        let undone_from = self.world.drivers.clock.elapsed();
        self.note("undoing");
        let mut left = self.drop_declared().await;
        left.extend(self.put_back(&mut injection.steps, None, begun).await);
        self.note("waiting for recovery");
        let recovered = recovery::well(self.world, Some(before), self.scenario.recover_within);
        let recovered = self.unless_interrupted(HURRIED, recovered).await;
        let (recovered, cut_short) = match recovered {
            Some(recovered) => (recovered, false),
            None => {
                let look = recovery::well(self.world, Some(before), Duration::ZERO).await;
                let cut_short = look.is_err();
                (look, cut_short)
            }
        };
        let mttr_ms = recovered.is_ok().then(|| since(self.world, undone_from));
        if recovered.is_ok() {
            self.look_after(variant, &mut probes, &injection, begun)
                .await;
        }
        let mut interrupt = self.interrupt.clone();
        tokio::select! {
            biased;
            Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => {}
            () = continuous.look_once_more() => {}
        }
        let recovered = match (recovered, &*reference) {
            (Ok(()), Some(name)) => self.as_before(name).await,
            (recovered, _) => recovered,
        };
        let mut left = self.still_left(left);
        let mut whole = recovered.is_ok() && left.is_empty();
        if let Some(name) = reference
            .as_deref()
            .filter(|_| !whole && self.choice.restore_on_failure)
        {
            whole = self
                .last_resort(name, &mut injection.steps, &mut left, begun)
                .await;
        }
        let (mut outcome, mut why) = judge(&probes, continuous, &injection.troubles, &recovered);
        if *self.interrupt.borrow() {
            why.insert(0, "interrupted".into());
            // Who was not waited for may be well in a moment; who was, and is not, is told as such.
            if recovered.is_ok() || cut_short {
                outcome = Outcome::Inconclusive;
            }
        }
        let probes = self.probe_documents(&variant.name, probes, continuous, &mut why);
        let mut document = self.document(variant, outcome, why, started);
        document.injected = injection.troubles.is_empty();
        document.recovered = whole;
        document.mttr_ms = mttr_ms;
        document.steps = injection.steps;
        document.probes = probes;
        Tested::put_back(document, left)
    }

    /// The steps, and then the looks, where the steps did what they are for.
    async fn inject_and_observe(
        &self,
        variant: &Resolved,
        probes: &mut [Watched<'_>],
        continuous: &Continuous<'_>,
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        self.inject(variant, probes, continuous, injection, begun)
            .await?;
        if injection.troubles.is_empty() {
            self.note("observing");
            self.observe(variant, probes, continuous, injection, begun)
                .await?;
        }
        Ok(())
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
            targets: targets(self.world, variant).unwrap_or_default(),
            outcome,
            why,
            injected: false,
            recovered: true,
            mttr_ms: None,
            probes: Vec::new(),
            steps: Vec::new(),
            samples: Vec::new(),
            took_ms: since(self.world, started),
        }
    }

    /// Why the injection ends here, where it does: the user, a stop condition, the budget.
    pub(super) fn ends(&self, begun: Duration) -> Option<String> {
        if *self.interrupt.borrow() {
            return Some("interrupted".into());
        }
        let over = self.world.drivers.clock.elapsed() >= begun + self.scenario.budget;
        let stopped = self.stop.borrow().clone();
        stopped.or_else(|| over.then(|| self.over()))
    }

    fn over(&self) -> String {
        format!("stopped: its budget of {:?} is over", self.scenario.budget)
    }

    /// Waits until the injection is to end; why.
    pub(super) async fn end(&self, begun: Duration) -> String {
        let clock = &self.world.drivers.clock;
        let left = (begun + self.scenario.budget).saturating_sub(clock.elapsed());
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = self.interrupted() => "interrupted".into(),
            Ok(why) = stop.wait_for(Option::is_some) => why.clone().unwrap_or_default(),
            () = clock.sleep(left) => self.over(),
        }
    }

    /// Waits until the user interrupts.
    async fn interrupted(&self) {
        let mut interrupt = self.interrupt.clone();
        if interrupt.wait_for(|asked| *asked).await.is_err() {
            // No process is left that could.
            std::future::pending::<()>().await;
        }
    }

    /// Does something to its end; an interrupt that comes meanwhile leaves it `hurried` for that.
    async fn unless_interrupted<T>(
        &self,
        hurried: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        if *self.interrupt.borrow() {
            return Some(work.await);
        }
        let over = async {
            self.interrupted().await;
            self.world.drivers.clock.sleep(hurried).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
        }
    }

    pub(super) fn note(&self, what: &str) {
        self.watch.tell(Event::Note(&format!("  {what}")));
    }
}
