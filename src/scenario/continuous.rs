//! Probes that look all the time: from before the first step until everything has recovered.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::World;
use super::engine::since;
use super::file::{Expect, Phase, Resolved, ResolvedProbe};
use super::inject::LOOK;
use super::probe::{Finding, Seen};
use super::safety::Stop;
use super::watching::{Against, evidence, look_with_retries};
use crate::report::{EvidenceDocument, LookDocument, ProbeDocument};

/// A look that takes longer is one that missed.
const LONGEST: Duration = Duration::from_secs(10);

/// What came of one probe's looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    looks: u64,
    missed: u64,
    /// Looks in a row that held, and that missed, up to now.
    held_in_row: u64,
    missed_in_row: u64,
    /// Whether one of those that missed saw that it does not hold; the others could not look.
    seen_to_miss: bool,
    /// The most in a row that missed, and of which none could look.
    worst: u64,
    worst_blind: u64,
    /// When it first held as often as it has to, and what it saw.
    fired: Option<(u64, Vec<EvidenceDocument>)>,
    /// Why it could last not look.
    trouble: Option<String>,
    /// When what it saw changed.
    changes: Vec<LookDocument>,
}

impl Tally {
    fn take(&mut self, looked: Result<Finding, String>, times: u64, at_ms: u64) {
        self.looks += 1;
        let state = match looked {
            Ok(Finding::Fired(evidence)) => {
                (self.held_in_row, self.missed_in_row) = (self.held_in_row + 1, 0);
                (self.seen_to_miss, self.trouble) = (false, None);
                if self.held_in_row >= times && self.fired.is_none() {
                    self.fired = Some((at_ms, evidence));
                }
                "held"
            }
            other => {
                self.missed += 1;
                (self.held_in_row, self.missed_in_row) = (0, self.missed_in_row + 1);
                self.trouble = other.err();
                self.seen_to_miss |= self.trouble.is_none();
                let worst = if self.seen_to_miss {
                    &mut self.worst
                } else {
                    &mut self.worst_blind
                };
                *worst = self.missed_in_row.max(*worst);
                if self.trouble.is_some() {
                    "unknown"
                } else {
                    "missed"
                }
            }
        };
        if self.changes.last().is_none_or(|last| last.state != state) {
            let state = state.to_owned();
            self.changes.push(LookDocument { at_ms, state });
        }
    }
}

/// A variant's probes that look all the time.
pub(super) struct Continuous<'p> {
    probes: Vec<(&'p ResolvedProbe, Option<Expect>)>,
    tallies: Mutex<Vec<Tally>>,
    /// How many rounds of looks have ended.
    rounds: watch::Sender<u64>,
}

impl<'p> Continuous<'p> {
    pub(super) fn new(variant: &'p Resolved) -> Self {
        let probes = variant
            .probes
            .iter()
            .filter(|probe| probe.at == Phase::Continuous);
        let probes: Vec<_> = probes
            .map(|probe| (probe, variant.expected(&probe.id)))
            .collect();
        let tallies = vec![Tally::default(); probes.len()];
        Self {
            probes,
            tallies: Mutex::new(tallies),
            rounds: watch::Sender::new(0),
        }
    }

    /// Waits until all have looked at what there is now; not where somebody else has ended the following.
    pub(super) async fn look_once_more(&self) {
        if self.probes.is_empty() {
            return;
        }
        let mut rounds = self.rounds.subscribe();
        // The round that is under way may have looked already.
        let enough = *rounds.borrow() + 2;
        let _ = rounds.wait_for(|rounds| *rounds >= enough).await;
    }

    fn held(&self) -> MutexGuard<'_, Vec<Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a probe first held as often as it has to.
    pub(super) fn fired_ms(&self, id: &str) -> Option<u64> {
        let index = self.probes.iter().position(|(probe, _)| probe.id == id)?;
        self.held()[index].fired.as_ref().map(|(at, _)| *at)
    }

    /// What speaks against the variant.
    pub(super) fn against(&self) -> Against {
        let mut against = Against::default();
        for ((probe, expected), tally) in self.probes.iter().zip(&*self.held()) {
            let id = &probe.id;
            let why = tally.trouble.as_deref().unwrap_or("it did not look");
            let unseen = tally.looks == 0 || tally.trouble.is_some();
            match expected {
                Some(Expect::Never) if tally.fired.is_some() => {
                    against.wrong.push(format!("{id} fired, and never should"));
                }
                Some(Expect::Always) if tally.worst > probe.misses => {
                    let Tally { missed, looks, .. } = tally;
                    let worst = tally.worst;
                    let what = format!("{id} missed {missed} of {looks} looks, {worst} in a row");
                    against.wrong.push(what);
                }
                Some(Expect::Always) if tally.looks == 0 || tally.worst_blind > probe.misses => {
                    against.blind.push(format!("{id} could not look: {why}"));
                }
                Some(Expect::Fires | Expect::Never) if tally.fired.is_none() && unseen => {
                    against.blind.push(format!("{id} could not look: {why}"));
                }
                Some(Expect::Fires) if tally.fired.is_none() => {
                    against.wrong.push(format!("{id} did not fire"));
                }
                _ => {}
            }
        }
        against
    }

    /// What the probes saw, for the report.
    pub(super) fn documents(&self) -> Vec<ProbeDocument> {
        let tallies = self.held().clone();
        let document = |(probe, expected): &(&ResolvedProbe, Option<Expect>), tally: Tally| {
            let missed_in_row = tally.worst.max(tally.worst_blind);
            let result = match (expected, &tally.fired) {
                _ if tally.looks == 0 => "unknown",
                (Some(Expect::Always), _) if missed_in_row > probe.misses => "missed",
                (Some(Expect::Always), _) => "held",
                (_, Some(_)) => "fired",
                (_, None) if tally.trouble.is_some() => "unknown",
                (_, None) => "quiet",
            };
            let fired_ms = tally.fired.as_ref().map(|(at, _)| *at);
            ProbeDocument {
                id: probe.id.clone(),
                expected: expected.map(|expected| expected.as_str().to_owned()),
                result: result.to_owned(),
                fired_ms,
                looks: tally.looks,
                missed: tally.missed,
                missed_in_row,
                changes: tally.changes,
                evidence: evidence(tally.fired.map(|(_, seen)| seen), tally.trouble),
            }
        };
        let pairs = self.probes.iter().zip(tallies);
        pairs.map(|(probe, tally)| document(probe, tally)).collect()
    }

    /// Takes down what a round of looks saw.
    fn take(&self, looked: Vec<Result<Finding, String>>, at_ms: u64) {
        let mut tallies = self.held();
        for ((looked, tally), (probe, _)) in looked.into_iter().zip(&mut *tallies).zip(&self.probes)
        {
            tally.take(looked, u64::from(probe.times), at_ms);
        }
    }

    /// Says so to `stop` where a stop condition holds, once.
    fn stop_where_due(&self, stops: &[Stop], stop: &watch::Sender<Option<String>>) {
        for (tally, (probe, _)) in self.held().iter().zip(&self.probes) {
            let missed = tally.missed_in_row;
            let due = |one: &Stop| one.probe == probe.id && missed >= one.failures;
            if stops.iter().any(due) && stop.borrow().is_none() {
                let why = format!("stopped: {} missed {missed} times in a row", probe.id);
                stop.send_replace(Some(why));
            }
        }
    }

    /// Looks until dropped; says so to `stop` when a stop condition holds.
    pub(super) async fn follow(
        &self,
        world: &World,
        stops: &[Stop],
        stop: &watch::Sender<Option<String>>,
        begun: Duration,
    ) -> Infallible {
        let begin = |probe: &'p ResolvedProbe| async {
            let stood = probe.probe.begin(world).await;
            stood.map_err(|error| error.to_string())
        };
        let stood = join_all(self.probes.iter().map(|(probe, _)| begin(probe))).await;
        if self.probes.is_empty() {
            return std::future::pending().await;
        }
        let seen = Seen::default();
        loop {
            let looks = self
                .probes
                .iter()
                .zip(&stood)
                .map(async |((probe, _), stood)| {
                    let looking = look_with_retries(world, probe, stood, &seen);
                    let looked = tokio::time::timeout(LONGEST, looking).await;
                    looked.unwrap_or_else(|_| Err(format!("no end of a look within {LONGEST:?}")))
                });
            let looked = join_all(looks).await;
            self.take(looked, since(world, begun));
            self.stop_where_due(stops, stop);
            self.rounds.send_modify(|rounds| *rounds += 1);
            world.drivers.clock.sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_and_changes_written_down() {
        let fired = || Ok(Finding::Fired(Vec::new()));
        let mut tally = Tally::default();
        let looks = [
            fired(),
            Ok(Finding::Quiet),
            Err("no answer".to_owned()),
            fired(),
            fired(),
            Ok(Finding::Quiet),
        ];
        for (at, looked) in (0..).zip(looks) {
            tally.take(looked, 2, at);
        }
        assert_eq!((tally.looks, tally.missed, tally.worst), (6, 3, 2));
        assert_eq!(tally.fired.map(|(at, _)| at), Some(4), "twice in a row");
        let changes: Vec<(u64, &str)> = tally
            .changes
            .iter()
            .map(|change| (change.at_ms, change.state.as_str()))
            .collect();
        let wanted = [
            (0, "held"),
            (1, "missed"),
            (2, "unknown"),
            (3, "held"),
            (5, "missed"),
        ];
        assert_eq!(changes, wanted);
    }
}
