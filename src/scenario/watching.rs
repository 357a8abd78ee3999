//! Watching probes, and judging by what they saw.

use std::time::Duration;

use super::ScenarioError;
use super::engine::{Engine, since};
use super::file::{Expect, Phase, Resolved};
use super::inject::Injection;
use super::probe::{Finding, Probe, Seen};
use crate::report::{EvidenceDocument, Outcome, ProbeDocument};

/// A probe while it is watched.
pub(super) struct Watched<'p> {
    pub(super) id: &'p str,
    probe: &'p dyn Probe,
    phase: Phase,
    since: Option<&'p str>,
    expected: Option<Expect>,
    begun: Result<serde_json::Value, String>,
    fired: Option<Vec<EvidenceDocument>>,
    /// When it fired, since the variant's begin.
    pub(super) fired_ms: u64,
    trouble: Option<String>,
}

impl Watched<'_> {
    pub(super) const fn has_fired(&self) -> bool {
        self.fired.is_some()
    }
}

impl Engine<'_> {
    /// Has the probes remember where things stand; those of the time before look at once.
    pub(super) async fn begin_probes<'p>(
        &self,
        variant: &'p Resolved,
        begun: Duration,
    ) -> Vec<Watched<'p>> {
        let mut watched = Vec::new();
        for one in &variant.probes {
            let (id, probe) = (one.id.as_str(), one.probe.as_ref());
            let stands = probe.begin(self.world).await;
            let expected = variant.expect.iter().find(|(expected, _)| *expected == id);
            watched.push(Watched {
                id,
                probe,
                phase: one.at,
                since: one.since.as_deref(),
                expected: expected.map(|(_, expected)| *expected),
                begun: stands.map_err(|error| error.to_string()),
                fired: None,
                fired_ms: 0,
                trouble: None,
            });
        }
        self.look_at(&mut watched, Phase::Before, &Seen::default(), begun)
            .await;
        watched
    }

    /// Watches the probes until everything that should fire has; for the whole time where something should not.
    pub(super) async fn observe(
        &self,
        probes: &mut [Watched<'_>],
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + self.scenario.observe;
        let budget = begun + self.scenario.budget;
        let during = |probe: &Watched<'_>| probe.phase == Phase::During;
        let whole = probes
            .iter()
            .any(|probe| during(probe) && probe.expected == Some(Expect::Never));
        loop {
            self.look(probes, &injection.seen, begun).await;
            self.lift_due(injection, begun).await?;
            let missing = probes.iter().any(|probe| {
                during(probe) && probe.expected == Some(Expect::Fires) && !probe.has_fired()
            });
            let wrong = probes
                .iter()
                .any(|probe| probe.expected == Some(Expect::Never) && probe.has_fired());
            let now = clock.elapsed();
            if now >= until
                || now >= budget
                || wrong
                || (!missing && !whole)
                || *self.interrupt.borrow()
            {
                return Ok(());
            }
            self.rest().await;
        }
    }

    /// Looks once at what is watched from the first step on.
    pub(super) async fn look(&self, probes: &mut [Watched<'_>], seen: &Seen, begun: Duration) {
        self.look_at(probes, Phase::During, seen, begun).await;
    }

    /// Looks at what is looked at after recovery, until all of it that should fire has.
    pub(super) async fn look_after(
        &self,
        probes: &mut [Watched<'_>],
        injection: &Injection,
        begun: Duration,
    ) {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + self.scenario.observe;
        loop {
            self.look_at(probes, Phase::After, &injection.seen, begun)
                .await;
            let missing = probes.iter().any(|probe| {
                probe.phase == Phase::After
                    && probe.expected == Some(Expect::Fires)
                    && !probe.has_fired()
            });
            if !missing || clock.elapsed() >= until || *self.interrupt.borrow() {
                return;
            }
            self.rest().await;
        }
    }

    async fn look_at(
        &self,
        probes: &mut [Watched<'_>],
        phase: Phase,
        seen: &Seen,
        begun: Duration,
    ) {
        for probe in probes
            .iter_mut()
            .filter(|probe| probe.phase == phase && probe.fired.is_none())
            .filter(|probe| {
                let done = |step| seen.done.iter().any(|done| done == step);
                probe.since.is_none_or(done)
            })
        {
            let mut interrupt = self.interrupt.clone();
            let looked = match &probe.begun {
                Ok(stood) => tokio::select! {
                    biased;
                    // The undo does not wait for a look.
                    Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => return,
                    looked = probe.probe.look(self.world, stood, seen) => looked.map_err(|error| error.to_string()),
                },
                Err(why) => Err(why.clone()),
            };
            match looked {
                Ok(Finding::Fired(evidence)) => {
                    (probe.fired, probe.trouble) = (Some(evidence), None);
                    probe.fired_ms = since(self.world, begun);
                }
                Ok(Finding::Quiet) => probe.trouble = None,
                Err(why) => probe.trouble = Some(why),
            }
        }
    }

    /// Keeps what the probes saw, and writes it down for the report.
    pub(super) fn probe_documents(
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
            let fired_ms = probe.has_fired().then_some(probe.fired_ms);
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
                fired_ms,
                evidence,
            });
        }
        Ok(documents)
    }
}

/// Judges a variant: an action without effect, or a probe that could not look, leaves it open whatever else was seen.
pub(super) fn judge(
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
