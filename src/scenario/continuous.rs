//! Probes that look all the time: from before the first step until everything has recovered.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::World;
use super::file::Resolved;
use super::looking::{LOOK, look_with_retries};
use super::probe::{Reference, Seen};
use super::probe_entry::{Phase, ResolvedProbe};
use super::probe_state::ProbeState;
use super::safety::Stop;

/// A look that takes longer is one that missed.
const LONGEST: Duration = Duration::from_secs(10);

/// What it remembers of the time before the first step.
type Stood = Result<Reference, String>;

/// A variant's probes that look all the time.
pub(super) struct Continuous<'p> {
    probes: Vec<&'p ResolvedProbe>,
    stood: Mutex<Vec<Stood>>,
    states: Mutex<Vec<ProbeState>>,
    /// How many looks of each probe have ended.
    looks: watch::Sender<Vec<u64>>,
}

impl<'p> Continuous<'p> {
    pub(super) fn new(variant: &'p Resolved) -> Self {
        let all = variant.probes.iter();
        let probes: Vec<_> = all.filter(|probe| probe.at == Phase::Continuous).collect();
        let state =
            |probe: &&ResolvedProbe| ProbeState::new(probe, variant.expected(&probe.id), None);
        Self {
            stood: Mutex::default(),
            states: Mutex::new(probes.iter().map(state).collect()),
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
        let stood = join_all(self.probes.iter().map(|probe| begin(probe))).await;
        for (state, stood) in self.held().iter_mut().zip(&stood) {
            state.cannot_look(stood.as_ref().err());
        }
        *self.stood.lock().unwrap_or_else(PoisonError::into_inner) = stood;
        let looks = (0..self.probes.len()).map(|index| self.look(world, index, begun));
        join_all(looks).await;
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

    fn held(&self) -> MutexGuard<'_, Vec<ProbeState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come of their looks so far.
    pub(super) fn states(&self) -> Vec<ProbeState> {
        self.held().clone()
    }

    /// One look of one probe.
    async fn look(&self, world: &World, index: usize, begun: Duration) {
        let Some(probe) = self.probes.get(index) else {
            return;
        };
        let (stood, seen) = (self.stood(index), Seen::default());
        let looking = look_with_retries(world, probe, &stood, &seen);
        let looked = world.drivers.clock.timeout(LONGEST, looking).await;
        let looked = looked.unwrap_or_else(|| Err(format!("no end of a look within {LONGEST:?}")));
        if let Some(state) = self.held().get_mut(index) {
            state.take(looked, Phase::Continuous, world.since(begun));
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
        for (state, probe) in self.held().iter().zip(&self.probes) {
            let missed = state.missed_in_row();
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
