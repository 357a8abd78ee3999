//! One variant: a steady lab, the steps, the looks, and all of it put back.

use std::time::Duration;

use super::continuous::Continuous;
use super::engine::Engine;
use super::events::{Ended, RunEvent, RunPhase};
use super::file::Resolved;
use super::injection::Injection;
use super::judge::judge;
use super::probe_state::ProbeState;
use super::result::Outcome;
use super::watching::{Watched, states};
use super::{ScenarioError, recovery};
use crate::journal::OpenAct;

/// What recovery may take once the user has interrupted while it was waited for.
const HURRIED: Duration = Duration::from_secs(10);

/// What came of a variant.
pub(super) struct Tested {
    ended: Ended,
    /// What could not be put back.
    pub(super) left: Vec<String>,
    /// What was left in place, because the user asked for it.
    pub(super) kept: Vec<String>,
}

/// How a variant ended; how long that took is added by those who know.
fn ended((outcome, why): (Outcome, Vec<String>), injected: bool, recovered: bool) -> Ended {
    Ended {
        outcome,
        why,
        injected,
        recovered,
        mttr_ms: None,
        took_ms: 0,
    }
}

impl Tested {
    const fn put_back(ended: Ended, left: Vec<String>) -> Self {
        let kept = Vec::new();
        Self { ended, left, kept }
    }

    /// One that came to nothing.
    fn nothing(why: Vec<String>, left: Vec<String>) -> Self {
        let ended = ended((Outcome::Inconclusive, why), false, left.is_empty());
        Self::put_back(ended, left)
    }
}

impl Engine<'_> {
    /// Runs one variant.
    pub(super) async fn variant(
        &self,
        variant: &Resolved,
        reference: &mut Option<String>,
    ) -> Tested {
        let started = self.world.drivers.clock.elapsed();
        let mut tested = self.steady(variant, reference).await;
        tested.ended.took_ms = self.world.since(started);
        self.happens(RunEvent::VariantEnded(tested.ended.clone()));
        tested
    }

    /// The variant, from where the lab is steady.
    async fn steady(&self, variant: &Resolved, reference: &mut Option<String>) -> Tested {
        self.phase(RunPhase::Steadying);
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
            return Tested::nothing(why, Vec::new());
        };
        let taken = self.reference(reference).await;
        let begun = self.world.drivers.clock.elapsed();
        if let Err(why) = taken {
            // The clocks may be behind by what the hosts stood still, and the baseline half taken.
            let mut left = self.drop_declared().await;
            left.extend(self.put_back(None, begun).await);
            return Tested::nothing(vec![why], left);
        }
        self.stop.send_replace(None);
        let continuous = Continuous::new(variant);
        tokio::select! {
            () = continuous.begin(self.world, begun) => {}
            // The steps see to it.
            _ = self.end(begun) => {}
        }
        let tested = self.tested(variant, &before, reference, &continuous, begun);
        tokio::select! {
            tested = tested => tested,
            never = self.sample(&variant.watch, begun) => match never {},
            never = continuous.follow(self.world, &variant.stop, &self.stop, begun) => match never {},
        }
    }

    /// The variant itself, from the first look to the last, in a lab that is steady.
    async fn tested(
        &self,
        variant: &Resolved,
        before: &recovery::Instances,
        reference: &mut Option<String>,
        continuous: &Continuous<'_>,
        begun: Duration,
    ) -> Tested {
        let mut probes = self.begin_probes(variant, begun).await;
        let mut injection = Injection::default();
        // What cannot be written down ends it, and is put back like the rest.
        let injected = self
            .inject_and_observe(variant, &mut probes, continuous, &mut injection, begun)
            .await;
        let unwritten = injected.err().map(|error| error.to_string());
        injection.troubles.extend(unwritten);
        if !injection.troubles.is_empty() {
            // One look, for the report.
            self.look(&mut probes, &injection.seen, begun).await;
        }
        // What has been stopped, by hand or for safety's sake, is put back all the same.
        if self.choice.keep
            && self.ends(begun).is_none()
            && let Ok(open) = self.journal.open_acts(self.world.found.record.uuid)
        {
            return self.kept(states(&probes, continuous), &injection, open);
        }
        let undone_from = self.world.drivers.clock.elapsed();
        self.phase(RunPhase::Undoing);
        let mut left = self.drop_declared().await;
        left.extend(self.put_back(None, begun).await);
        self.phase(RunPhase::Recovering);
        let (recovered, cut_short) = self.recovered(before).await;
        let mttr_ms = recovered.is_ok().then(|| self.world.since(undone_from));
        if recovered.is_ok() {
            self.look_after(variant, &mut probes, &injection, begun)
                .await;
        }
        tokio::select! {
            biased;
            () = self.interrupted() => {}
            () = continuous.look_once_more() => {}
        }
        let recovered = match (recovered, &*reference) {
            (Ok(()), Some(name)) => self.as_before(name).await,
            (recovered, _) => recovered,
        };
        let mut left = self.still_left(left);
        let mut whole = recovered.is_ok() && left.is_empty();
        let last_resort = !whole && self.choice.restore_on_failure;
        if let Some(name) = reference.as_deref().filter(|_| last_resort) {
            whole = self.last_resort(name, &mut left, begun).await;
        }
        let states = states(&probes, continuous);
        let (mut outcome, mut why) = judge(&states, &injection.troubles, &recovered);
        if *self.interrupt.borrow() {
            why.insert(0, "interrupted".into());
            // A host that was not waited for may be well in a moment; one that was, and is not, is reported.
            if recovered.is_ok() || cut_short {
                outcome = Outcome::Inconclusive;
            }
        }
        self.probed(states);
        let injected = injection.troubles.is_empty();
        let ended = ended((outcome, why), injected, whole);
        Tested::put_back(Ended { mttr_ms, ..ended }, left)
    }

    /// A variant whose failure stays in place.
    fn kept(&self, states: Vec<ProbeState>, injection: &Injection, open: Vec<OpenAct>) -> Tested {
        let (outcome, why) = judge(&states, &injection.troubles, &Ok(()));
        self.probed(states);
        Tested {
            ended: ended((outcome, why), injection.troubles.is_empty(), false),
            left: Vec::new(),
            kept: open.into_iter().map(|act| act.step).collect(),
        }
    }

    /// Waits until everything has recovered. Once the user has interrupted it waits for a moment only: then it also tells
    /// whether that was too short.
    async fn recovered(&self, before: &recovery::Instances) -> (Result<(), Vec<String>>, bool) {
        let recovered = recovery::well(self.world, Some(before), self.scenario.recover_within);
        if let Some(recovered) = self.unless_interrupted(HURRIED, recovered).await {
            return (recovered, false);
        }
        let look = recovery::well(self.world, Some(before), Duration::ZERO).await;
        let cut_short = look.is_err();
        (look, cut_short)
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
            self.phase(RunPhase::Observing);
            self.observe(variant, probes, continuous, injection, begun)
                .await?;
        }
        Ok(())
    }
}
