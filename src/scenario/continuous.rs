//! Probes that look all the time: from before the first step until everything has recovered.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::World;
use super::expect::Expect;
use super::file::Resolved;
use super::looking::{Against, GAP, LOOK, cannot_look, evidence, look_with_retries};
use super::probe::{Finding, Reference, Seen};
use super::probe_entry::{Phase, ResolvedProbe};
use super::result::{Evidence, LookChange, LookState, ProbeOutcome, ProbeResult};
use super::safety::Stop;

/// A look that takes longer is one that missed.
const LONGEST: Duration = Duration::from_secs(10);

/// What came of one probe's looks.
#[derive(Clone, Debug, Default)]
struct Tally {
    looks: u64,
    missed: u64,
    /// Looks in a row that held, that missed, and that could not be made, up to now.
    held_in_row: u64,
    missed_in_row: u64,
    blind_in_row: u64,
    /// Whether one of those that missed saw that it does not hold; the others could not look.
    seen_to_miss: bool,
    /// The most in a row that missed, one of them at least seen to; and that could not be made.
    worst: u64,
    worst_blind: u64,
    /// When the first of those that held was, and the last.
    held_ms: u64,
    looked_ms: u64,
    /// When it first held as often and for as long as it has to, and what it saw.
    fired: Option<(u64, Vec<Evidence>)>,
    /// Why it could last not look; kept, for what it did not see meanwhile.
    trouble: Option<String>,
    /// When what it saw changed.
    changes: Vec<LookChange>,
}

impl Tally {
    fn take(
        &mut self,
        looked: Result<Finding, String>,
        (times, lasts): (u64, Duration),
        at_ms: u64,
    ) {
        self.looks += 1;
        let state = match looked {
            Ok(Finding::Fired(evidence)) => {
                if self.held_in_row == 0 || at_ms.saturating_sub(self.looked_ms) > GAP {
                    self.held_ms = at_ms;
                }
                self.looked_ms = at_ms;
                let lasted = Duration::from_millis(at_ms.saturating_sub(self.held_ms));
                (self.held_in_row, self.missed_in_row) = (self.held_in_row + 1, 0);
                (self.blind_in_row, self.seen_to_miss) = (0, false);
                if self.held_in_row >= times && lasted >= lasts && self.fired.is_none() {
                    self.fired = Some((at_ms, evidence));
                }
                LookState::Held
            }
            Ok(Finding::Quiet) => {
                (self.blind_in_row, self.seen_to_miss) = (0, true);
                self.miss();
                LookState::Missed
            }
            Err(why) => {
                self.blind_in_row += 1;
                self.worst_blind = self.worst_blind.max(self.blind_in_row);
                self.trouble = Some(why);
                self.miss();
                LookState::Unknown
            }
        };
        if self.changes.last().is_none_or(|last| last.state != state) {
            self.changes.push(LookChange { at_ms, state });
        }
    }

    fn miss(&mut self) {
        self.missed += 1;
        (self.held_in_row, self.missed_in_row) = (0, self.missed_in_row + 1);
        if self.seen_to_miss {
            self.worst = self.worst.max(self.missed_in_row);
        }
    }

    /// Whether it was blind for longer than it may be.
    const fn blind(&self, misses: u64) -> bool {
        self.looks == 0 || self.worst_blind > misses
    }
}

/// What it remembers of the time before the first step.
type Stood = Result<Reference, String>;

/// A variant's probes that look all the time.
pub(super) struct Continuous<'p> {
    probes: Vec<(&'p ResolvedProbe, Option<Expect>)>,
    stood: Mutex<Vec<Stood>>,
    tallies: Mutex<Vec<Tally>>,
    /// How many looks of each probe have ended.
    looks: watch::Sender<Vec<u64>>,
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
        Self {
            stood: Mutex::default(),
            tallies: Mutex::new(vec![Tally::default(); probes.len()]),
            looks: watch::Sender::new(vec![0; probes.len()]),
            probes,
        }
    }

    /// Has the probes remember where things stand, and look for the first time: before the first step.
    pub(super) async fn begin(&self, world: &World, begun: Duration) {
        let begin = async |probe: &'p ResolvedProbe| {
            let clock = &world.drivers.clock;
            let stands = clock.timeout(LONGEST, probe.probe.begin(world)).await;
            stands.map_or_else(
                || Err(format!("it did not begin within {LONGEST:?}")),
                |stands| stands.map_err(|error| error.to_string()),
            )
        };
        let stood = join_all(self.probes.iter().map(|(probe, _)| begin(probe))).await;
        *self.stood.lock().unwrap_or_else(PoisonError::into_inner) = stood;
        let looks = (0..self.probes.len()).map(|index| self.look(world, index, begun));
        join_all(looks).await;
    }

    /// Those of which something is expected and that can never look, with why.
    pub(super) fn blind_from_the_start(&self) -> Vec<String> {
        let stood = self.stood.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = self.probes.iter().zip(&*stood);
        let blind = pairs.filter_map(|((probe, expected), stood)| {
            expected.and(stood.as_ref().err().map(|why| cannot_look(&probe.id, why)))
        });
        blind.collect()
    }

    /// Waits until all have looked at what there is now.
    pub(super) async fn look_once_more(&self) {
        let mut looks = self.looks.subscribe();
        // The looks that are under way may have seen what there was before.
        let enough: Vec<u64> = looks.borrow().iter().map(|looks| looks + 2).collect();
        let all = |looks: &Vec<u64>| looks.iter().zip(&enough).all(|(now, enough)| now >= enough);
        // The other end is this very thing's.
        let _ = looks.wait_for(all).await;
    }

    /// Whether one of them has yet to fire.
    pub(super) fn is_missing(&self) -> bool {
        let tallies = self.held();
        let mut pairs = self.probes.iter().zip(&*tallies);
        pairs
            .any(|((_, expected), tally)| *expected == Some(Expect::Fires) && tally.fired.is_none())
    }

    /// Whether one of them has to be watched for the whole time.
    pub(super) fn takes_the_whole_time(&self) -> bool {
        let mut probes = self.probes.iter();
        probes.any(|(_, expected)| matches!(expected, Some(Expect::Never | Expect::Always)))
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
            let blind = tally.blind(probe.misses);
            match expected {
                Some(Expect::Never) if tally.fired.is_some() => {
                    against.wrong.push(format!("{id} fired, and never should"));
                }
                Some(Expect::Always) if tally.worst > probe.misses => {
                    let Tally {
                        missed,
                        looks,
                        worst,
                        ..
                    } = tally;
                    let what = format!("{id} missed {missed} of {looks} looks, {worst} in a row");
                    against.wrong.push(what);
                }
                Some(Expect::Never | Expect::Always) if blind => {
                    against.blind.push(format!("{id} could not look: {why}"));
                }
                Some(Expect::Fires) if tally.fired.is_none() && blind => {
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
    pub(super) fn results(&self) -> Vec<ProbeResult> {
        let tallies = self.held().clone();
        let document = |(probe, expected): &(&ResolvedProbe, Option<Expect>), tally: Tally| {
            let missed_in_row = tally.worst.max(tally.worst_blind);
            let result = match (expected, &tally.fired) {
                (Some(Expect::Always), _) if tally.worst > probe.misses => ProbeOutcome::Missed,
                (Some(Expect::Always), _) if tally.blind(probe.misses) => ProbeOutcome::Unknown,
                (Some(Expect::Always), _) => ProbeOutcome::Held,
                (_, Some(_)) => ProbeOutcome::Fired,
                (_, None) if tally.blind(probe.misses) => ProbeOutcome::Unknown,
                (_, None) => ProbeOutcome::Quiet,
            };
            let fired_ms = tally.fired.as_ref().map(|(at, _)| *at);
            ProbeResult {
                id: probe.id.clone(),
                expected: *expected,
                result,
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

    /// One look of one probe.
    async fn look(&self, world: &World, index: usize, begun: Duration) {
        let Some((probe, _)) = self.probes.get(index) else {
            return;
        };
        let (stood, seen) = (self.stood(index), Seen::default());
        let looking = look_with_retries(world, probe, &stood, &seen);
        let looked = world.drivers.clock.timeout(LONGEST, looking).await;
        let looked = looked.unwrap_or_else(|| Err(format!("no end of a look within {LONGEST:?}")));
        if let Some(tally) = self.held().get_mut(index) {
            let enough = (u64::from(probe.times), probe.lasts);
            tally.take(looked, enough, world.since(begun));
        }
        self.looks.send_modify(|looks| {
            if let Some(looks) = looks.get_mut(index) {
                *looks += 1;
            }
        });
    }

    fn stood(&self, index: usize) -> Stood {
        let stood = self.stood.lock().unwrap_or_else(PoisonError::into_inner);
        let stood = stood.get(index).cloned();
        stood.unwrap_or_else(|| Err("it was ended before it began".into()))
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

    /// Looks until dropped, each probe for itself; says so to `stop` when a stop condition holds.
    pub(super) async fn follow(
        &self,
        world: &World,
        stops: &[Stop],
        stop: &watch::Sender<Option<String>>,
        begun: Duration,
    ) -> Infallible {
        let follow = async |index: usize| loop {
            world.drivers.clock.sleep(LOOK).await;
            self.look(world, index, begun).await;
            self.stop_where_due(stops, stop);
        };
        let following: Vec<()> = join_all((0..self.probes.len()).map(follow)).await;
        // There was none.
        drop(following);
        std::future::pending().await
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
            tally.take(looked, (2, Duration::ZERO), at);
        }
        assert_eq!((tally.looks, tally.missed, tally.worst), (6, 3, 2));
        assert!(
            tally.blind(0) && !tally.blind(1),
            "one look in a row was none"
        );
        assert_eq!(tally.fired.map(|(at, _)| at), Some(4), "twice in a row");
        let changes: Vec<(u64, LookState)> = tally
            .changes
            .iter()
            .map(|change| (change.at_ms, change.state))
            .collect();
        let wanted = [
            (0, LookState::Held),
            (1, LookState::Missed),
            (2, LookState::Unknown),
            (3, LookState::Held),
            (5, LookState::Missed),
        ];
        assert_eq!(changes, wanted);
    }

    #[test]
    fn e_what_holds_for_a_time_is_looked_at_in_all_of_it() {
        let mut tally = Tally::default();
        // Nobody has looked for twelve seconds: it starts over.
        for at in [0, 9_000, 21_000, 30_000, 32_000, 33_000] {
            let enough = (1, Duration::from_secs(12));
            tally.take(Ok(Finding::Fired(Vec::new())), enough, at);
        }
        assert_eq!(tally.fired.map(|(at, _)| at), Some(33_000));
    }
}
