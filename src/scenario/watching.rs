//! Watching the probes that look at moments.

use std::time::Duration;

use super::ScenarioError;
use super::continuous::Continuous;
use super::engine::Engine;
use super::events::RunEvent;
use super::file::Resolved;
use super::injection::Injection;
use super::looking::look_with_retries;
use super::probe::{Reference, Seen};
use super::probe_entry::{Phase, ResolvedProbe};
use super::probe_state::ProbeState;

/// A probe that looks at moments, and what has come of it.
pub(super) struct Watched<'p> {
    one: &'p ResolvedProbe,
    reference: Result<Reference, String>,
    pub(super) state: ProbeState,
}

/// What has come of all probes so far: of those that look at moments, and of those that look all the time.
pub(super) fn states(probes: &[Watched<'_>], continuous: &Continuous<'_>) -> Vec<ProbeState> {
    let once = probes.iter().map(|probe| probe.state.clone());
    once.chain(continuous.states()).collect()
}

impl Engine<'_> {
    /// Has the probes remember where things stand; those of the time before look at once.
    pub(super) async fn begin_probes<'p>(
        &self,
        variant: &'p Resolved,
        begun: Duration,
    ) -> Vec<Watched<'p>> {
        let mut watched = Vec::new();
        let once = variant.probes.iter();
        for one in once.filter(|one| one.at != Phase::Continuous) {
            let reference = one.probe.begin(self.world).await;
            let reference = reference.map_err(|error| error.to_string());
            let why = reference.as_ref().err().cloned();
            let state = ProbeState::new(one, variant.expected(&one.id), why);
            watched.push(Watched {
                one,
                reference,
                state,
            });
        }
        let before = watched
            .iter()
            .filter(|probe| probe.state.looks(Phase::Before));
        let looks = before.map(|probe| probe.one.times.saturating_add(probe.one.retries));
        for look in 0..looks.max().unwrap_or(0) {
            if self.ends(begun).is_some() {
                break;
            }
            if look > 0 {
                self.rest().await;
            }
            self.look_at(&mut watched, (Phase::Before, None), &Seen::default(), begun)
                .await;
            if !watched.iter().any(|probe| probe.state.looks(Phase::Before)) {
                break;
            }
        }
        watched
    }

    /// Watches the probes until everything that should fire has; for the whole time where something should not.
    pub(super) async fn observe(
        &self,
        variant: &Resolved,
        probes: &mut [Watched<'_>],
        continuous: &Continuous<'_>,
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + variant.observe;
        let whole = states(probes, continuous).iter().any(|probe| {
            [Phase::During, Phase::Continuous]
                .into_iter()
                .any(|phase| probe.takes_the_whole_time(phase))
        });
        loop {
            self.look(probes, &injection.seen, begun).await;
            self.lift_due(injection, begun).await?;
            let states = states(probes, continuous);
            let is_watched = |probe: &&ProbeState| probe.is_watched_during();
            let missing = states.iter().filter(is_watched).any(ProbeState::is_missing);
            let wrong = is_decided(&states);
            if *self.interrupt.borrow() {
                return Ok(());
            }
            if let Some(why) = self.ends(begun) {
                injection.troubles.push(why);
                return Ok(());
            }
            if clock.elapsed() >= until || wrong || (!missing && !whole) {
                return Ok(());
            }
            self.rest().await;
        }
    }

    /// Looks once at what is watched from the first step on.
    pub(super) async fn look(&self, probes: &mut [Watched<'_>], seen: &Seen, begun: Duration) {
        self.look_at(probes, (Phase::During, None), seen, begun)
            .await;
    }

    /// Looks at what is looked at after recovery, until all of it that should fire has.
    pub(super) async fn look_after(
        &self,
        variant: &Resolved,
        probes: &mut [Watched<'_>],
        injection: &Injection,
        begun: Duration,
    ) {
        let clock = &self.world.drivers.clock;
        let until = clock.elapsed() + variant.observe;
        let looking = probes
            .iter()
            .filter(|probe| probe.state.looks(Phase::After));
        let times = looking.map(|probe| probe.one.times).max().unwrap_or(0);
        for look in 1.. {
            self.look_at(probes, (Phase::After, None), &injection.seen, begun)
                .await;
            let missing = probes
                .iter()
                .any(|probe| probe.state.looks(Phase::After) && probe.state.is_missing());
            let over = clock.elapsed() >= until || *self.interrupt.borrow();
            // One that never should has its chance too.
            if (!missing && look >= times) || over {
                return;
            }
            self.rest().await;
        }
    }

    /// Lets those look that do in this phase, each for so long where that is given.
    pub(super) async fn look_at(
        &self,
        probes: &mut [Watched<'_>],
        (phase, longest): (Phase, Option<Duration>),
        seen: &Seen,
        begun: Duration,
    ) {
        let clock = &self.world.drivers.clock;
        for probe in probes
            .iter_mut()
            .filter(|probe| probe.state.looks(phase))
            .filter(|probe| {
                let done = |step: &String| seen.done.contains(step);
                probe.one.since.as_ref().is_none_or(done)
            })
        {
            let mut interrupt = self.interrupt.clone();
            let looked = tokio::select! {
                biased;
                // The undo does not wait for a look.
                Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => return,
                looked = look_with_retries(self.world, probe.one, &probe.reference, seen) => looked,
                () = clock.sleep(longest.unwrap_or_default()), if longest.is_some() => {
                    Err("no end within its time".into())
                }
            };
            probe.state.take(looked, phase, self.world.since(begun));
        }
    }

    /// Takes down what the probes came to.
    pub(super) fn probed(&self, states: Vec<ProbeState>) {
        for state in states.into_iter().filter(ProbeState::is_reported) {
            self.happens(RunEvent::Probed(state.result()));
        }
    }
}

/// Whether what was seen decides the variant: a probe fired that never should, or one that looks all the time speaks against it where
/// nothing is waited for.
fn is_decided(states: &[ProbeState]) -> bool {
    let all_the_time = states.iter().filter(|probe| probe.is_continuous());
    let missing = all_the_time.clone().any(ProbeState::is_missing);
    let against = all_the_time.map(ProbeState::against);
    let mut once = states.iter().filter(|probe| !probe.is_continuous());
    once.any(ProbeState::is_wrong)
        || (!missing && against.into_iter().any(|one| !one.wrong.is_empty()))
}
