//! One variant: a steady lab, the steps, the looks, and all of it put back.

use std::time::Duration;

use super::continuous::Continuous;
use super::engine::{Engine, targets};
use super::file::Resolved;
use super::injection::Injection;
use super::result::{Outcome, VariantResult};
use super::sampling::Samples;
use super::watching::{Watched, judge};
use super::{ScenarioError, recovery};

/// What recovery may take once the user has interrupted while it was waited for.
const HURRIED: Duration = Duration::from_secs(10);

/// What came of a variant.
pub(super) struct Tested {
    pub(super) document: VariantResult,
    /// What could not be put back.
    pub(super) left: Vec<String>,
    /// What was left in place, because the user asked for it.
    pub(super) kept: Vec<String>,
}

impl Tested {
    const fn put_back(document: VariantResult, left: Vec<String>) -> Self {
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
    pub(super) async fn variant(
        &self,
        variant: &Resolved,
        reference: &mut Option<String>,
    ) -> Tested {
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
        let mttr_ms = recovered.is_ok().then(|| self.world.since(undone_from));
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
    ) -> VariantResult {
        VariantResult {
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
            took_ms: self.world.since(started),
        }
    }
}
