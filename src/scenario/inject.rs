//! Carrying a variant's steps out.

use std::time::Duration;

use futures::future::join_all;

use super::ScenarioError;
use super::continuous::Continuous;
use super::engine::Engine;
use super::events::RunEvent;
use super::fault::AnyFault;
use super::file::Resolved;
use super::injection::{Behind, Ended, Injection};
use super::looking::LOOK;
use super::probe::Seen;
use super::probe_entry::Phase;
use super::probe_state::ProbeState;
use super::result::{StepOutcome, StepResult};
use super::step::{ResolvedStep, Work};
use super::watching::{Watched, states};
use crate::journal::{ActState, Intent};

/// What a look may take while something else goes on, which may want the same guest.
const LONGEST: Duration = Duration::from_secs(10);

/// What an action may take beyond its own deadline, which it keeps itself, before it is given up.
const GRACE: Duration = Duration::from_secs(60);

/// Why nothing is broken: a probe could not see it, most of the time for a name that is mistyped, or did not hold when it was
/// to hold.
fn blind(probes: &[Watched<'_>], continuous: &Continuous<'_>) -> Vec<String> {
    let states = states(probes, continuous);
    states.iter().filter_map(ProbeState::hindrance).collect()
}

impl Engine<'_> {
    /// Does the steps, until one does not do what it is for.
    pub(super) async fn inject(
        &self,
        variant: &Resolved,
        probes: &mut [Watched<'_>],
        continuous: &Continuous<'_>,
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        injection.troubles = blind(probes, continuous);
        if !injection.troubles.is_empty() {
            return Ok(());
        }
        let mut behind = Behind::default();
        for step in &variant.steps {
            self.happens(RunEvent::StepBegun {
                step: step.id.clone(),
                what: step.describe(),
            });
            self.lift_due(injection, begun).await?;
            if let Some(why) = self.ends(begun) {
                injection.troubles.push(format!("step {}: {why}", step.id));
                break;
            }
            match &step.work {
                Work::Together(steps) => {
                    let ended = steps
                        .iter()
                        .map(|step| self.timed(&variant.name, step, begun));
                    let ended = self.looking(probes, &injection.seen, begun, join_all(ended));
                    let ended = behind.beside(ended).await;
                    for (step, ended) in steps.iter().zip(ended) {
                        self.take(injection, step, ended?);
                    }
                }
                Work::Act(..) if step.background => {
                    let going = self.timed(&variant.name, step, begun);
                    behind
                        .running
                        .push(Box::pin(async move { (step, going.await) }));
                }
                Work::Act(..) => {
                    let acting = self.timed(&variant.name, step, begun);
                    let acting = self.looking(probes, &injection.seen, begun, acting);
                    let ended = behind.beside(acting).await?;
                    self.take(injection, step, ended);
                }
                Work::Undo(id) => {
                    // It may be one that goes on in the background.
                    self.drain(&mut behind, probes, injection, begun).await?;
                    self.undo_step(&step.id, id, probes, injection, begun)
                        .await?;
                }
                Work::Wait(_) | Work::Baseline(_) | Work::Pause(_) => {
                    let from = self.world.since(begun);
                    let looking = (&mut *probes, continuous);
                    let waiting = self.wait(step, looking, injection, &mut behind, begun);
                    let ended = waiting.await?;
                    self.take(injection, step, (ended, from, self.world.since(begun)));
                }
            }
            self.absorb(injection, &mut behind)?;
            if !step.background && !injection.seen.done.contains(&step.id) {
                injection.seen.done.push(step.id.clone());
            }
            if !injection.troubles.is_empty() {
                break;
            }
        }
        self.drain(&mut behind, probes, injection, begun).await
    }

    /// Reverts a step before the end, as a step asks for it.
    async fn undo_step(
        &self,
        step: &str,
        undone: &str,
        probes: &mut [Watched<'_>],
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        if self.waits(undone)? {
            injection.troubles.push(format!(
                "step {step}: a later step has captured what {undone} changed, and is put back first"
            ));
            return Ok(());
        }
        let undoing = self.put_back(Some(undone), begun);
        let undoing = self.looking(probes, &injection.seen, begun, undoing);
        let left = tokio::select! {
            biased;
            left = undoing => left,
            // The undo at the end goes on with it, and does not let others wait.
            why = self.end(begun) => vec![why],
        };
        let left = left.into_iter();
        injection
            .troubles
            .extend(left.map(|left| format!("step {step}: {left}")));
        Ok(())
    }

    /// Takes down how a step ended.
    fn take(&self, injection: &mut Injection, step: &ResolvedStep, ended: (Ended, u64, u64)) {
        let (ended, from, to) = ended;
        self.happens(RunEvent::StepEnded(StepResult {
            id: step.id.clone(),
            what: step.describe(),
            result: ended.result,
            detail: ended.detail.clone(),
            at_ms: from,
            took_ms: to.saturating_sub(from),
        }));
        injection.take(step, ended);
    }

    /// Takes down how steps in the background ended.
    fn absorb(
        &self,
        injection: &mut Injection,
        behind: &mut Behind<'_>,
    ) -> Result<(), ScenarioError> {
        for (step, ended) in std::mem::take(&mut behind.ended) {
            self.take(injection, step, ended?);
        }
        Ok(())
    }

    /// Looks again and again while something else goes on.
    async fn looking<T>(
        &self,
        probes: &mut [Watched<'_>],
        seen: &Seen,
        begun: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        let look = async {
            while !*self.interrupt.borrow() {
                let longest = Some(LONGEST);
                self.look_at(probes, (Phase::During, longest), seen, begun)
                    .await;
                self.rest().await;
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            done = work => done,
            never = look => match never {},
        }
    }

    /// Waits for what goes on in the background; not where something went wrong, for then it is put back anyway.
    async fn drain(
        &self,
        behind: &mut Behind<'_>,
        probes: &mut [Watched<'_>],
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        self.absorb(injection, behind)?;
        while !behind.running.is_empty() && injection.troubles.is_empty() {
            behind
                .beside(self.look(probes, &injection.seen, begun))
                .await;
            behind.beside(self.lift_due(injection, begun)).await?;
            behind.beside(self.rest()).await;
            self.absorb(injection, behind)?;
            if let Some(why) = self.ends(begun) {
                injection.troubles.push(why);
            }
        }
        Ok(())
    }

    /// Does a step, with the times, in milliseconds since `begun`, at which that began and ended.
    async fn timed(
        &self,
        variant: &str,
        step: &ResolvedStep,
        begun: Duration,
    ) -> Result<(Ended, u64, u64), ScenarioError> {
        let Work::Act(action, lasts) = &step.work else {
            return Ok((Ended::failed("it is no action"), 0, 0));
        };
        let from = self.world.since(begun);
        let mut ended = self.act(variant, step, action, begun).await?;
        if ended.result == StepOutcome::Verified {
            ended.lift = lasts.map(|lasts| self.world.drivers.clock.elapsed() + lasts);
        }
        Ok((ended, from, self.world.since(begun)))
    }

    /// One action: capture, intent, act, verify.
    async fn act(
        &self,
        variant: &str,
        step: &ResolvedStep,
        action: &AnyFault,
        begun: Duration,
    ) -> Result<Ended, ScenarioError> {
        let world = self.world;
        let lasts = step.lasts();
        if let Some(why) = self.ends(begun) {
            return Ok(Ended::failed(why));
        }
        let captured = tokio::select! {
            captured = action.capture(world) => captured,
            why = self.end(begun) => return Ok(Ended::failed(why)),
        };
        let captured = match captured {
            Ok(captured) => captured,
            Err(error) => return Ok(Ended::failed(format!("nothing was done: {error}"))),
        };
        if let Err(error) = world.held() {
            return Ok(Ended::failed(format!("nothing was done: {error}")));
        }
        // Acting may take its time before the fault's own begins.
        let clock = &world.drivers.clock;
        let expires = lasts.map(|lasts| clock.boot().later(lasts + step.within));
        let sequence = self.journal.intend_act(&Intent {
            run: &world.run,
            variant,
            step: &step.id,
            action: action.name(),
            undo: &captured.to_string(),
            expires,
            outside: action.footprint().is_outside(),
        })?;
        self.happens(RunEvent::Acting {
            step: step.id.clone(),
        });
        let acting = action.inject(world, &captured, step.within);
        let acting = world.drivers.clock.timeout(step.within + GRACE, acting);
        let acted = tokio::select! {
            acted = acting => acted,
            why = self.end(begun) => return Ok(Ended::failed(why)),
        };
        self.happens(RunEvent::Acted {
            step: step.id.clone(),
        });
        // It may have been put back, as overdue, before it took effect.
        let state = self.journal.act_state(&world.run, sequence)?;
        if matches!(acted, Some(Ok(()))) || state == Some(ActState::Undone) {
            self.journal.mark_acted(&world.run, sequence)?;
        }
        match acted {
            Some(Ok(())) => {}
            Some(Err(error)) => return Ok(Ended::failed(error.to_string())),
            None => {
                let within = step.within + GRACE;
                return Ok(Ended::failed(format!("no end within {within:?}")));
            }
        }
        if let Some(lasts) = lasts {
            let at = world.drivers.clock.boot().later(lasts);
            self.journal.expire_act_at(&world.run, sequence, &at)?;
        }
        self.verify(action, &captured, begun).await
    }

    /// Looks whether an action took effect.
    async fn verify(
        &self,
        action: &AnyFault,
        captured: &serde_json::Value,
        begun: Duration,
    ) -> Result<Ended, ScenarioError> {
        let verified = tokio::select! {
            verified = action.verify(self.world, captured) => verified,
            why = self.end(begun) => return Ok(Ended::failed(why)),
        };
        Ok(match verified {
            Ok(verified) if verified.effective => Ended {
                refused: verified.refused,
                ..Ended::done(verified.seen)
            },
            Ok(verified) => Ended {
                result: StepOutcome::NoEffect,
                detail: format!("it did not take effect: {}", verified.seen),
                refused: verified.refused,
                lift: None,
            },
            Err(error) => Ended::failed(format!("it is not known whether it took effect: {error}")),
        })
    }

    /// Looks again and again, until what the step is for has come or its time is over.
    async fn wait(
        &self,
        step: &ResolvedStep,
        (probes, continuous): (&mut [Watched<'_>], &Continuous<'_>),
        injection: &mut Injection,
        behind: &mut Behind<'_>,
        begun: Duration,
    ) -> Result<Ended, ScenarioError> {
        let lasts = match &step.work {
            Work::Pause(time) => *time,
            _ => step.within,
        };
        let until = self.world.drivers.clock.elapsed() + lasts;
        loop {
            behind
                .beside(self.look(probes, &injection.seen, begun))
                .await;
            behind.beside(self.lift_due(injection, begun)).await?;
            if let Some(why) = self.ends(begun) {
                return Ok(Ended::failed(why));
            }
            if let Some(ended) = behind
                .beside(self.come(&step.work, probes, continuous))
                .await
            {
                return Ok(ended);
            }
            self.absorb(injection, behind)?;
            if !injection.troubles.is_empty() {
                return Ok(Ended::failed("a step in the background went wrong"));
            }
            if self.world.drivers.clock.elapsed() >= until {
                return Ok(match &step.work {
                    Work::Pause(time) => Ended::done(format!("{time:?} passed")),
                    Work::Wait(probe) => {
                        Ended::failed(format!("{probe} did not fire within {lasts:?}"))
                    }
                    _ => Ended::failed(format!("its gates did not hold within {lasts:?}")),
                });
            }
            behind.beside(self.rest()).await;
        }
    }

    /// How a step ends that waits for something, where that has come.
    async fn come(
        &self,
        work: &Work,
        probes: &[Watched<'_>],
        continuous: &Continuous<'_>,
    ) -> Option<Ended> {
        match work {
            Work::Wait(probe) => {
                let states = states(probes, continuous);
                let found = states.iter().find(|state| state.id() == probe)?;
                let ms = found.fired_ms()?;
                Some(Ended::done(format!("{probe} fired after {ms} ms")))
            }
            Work::Baseline(declared) => match self.declared(declared).await {
                Ok(taken) => taken.map(Ended::done),
                Err(why) => Some(Ended::failed(why)),
            },
            _ => None,
        }
    }

    /// Sleeps until the next look; wakes when the user interrupts.
    pub(super) async fn rest(&self) {
        let mut interrupt = self.interrupt.clone();
        tokio::select! {
            () = self.world.drivers.clock.sleep(LOOK) => {}
            _ = interrupt.wait_for(|interrupted| *interrupted) => {}
        }
    }

    /// Puts back what has lasted for its time.
    pub(super) async fn lift_due(
        &self,
        injection: &mut Injection,
        begun: Duration,
    ) -> Result<(), ScenarioError> {
        let now = self.world.drivers.clock.elapsed();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut injection.lifts)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        injection.lifts = later;
        // The last one first: an earlier one may wait for it.
        for (at, step) in due.into_iter().rev() {
            // At the end all is put back anyway, and nothing waits for another's boot.
            if self.ends(begun).is_some() || self.waits(&step)? {
                injection.lifts.push((at, step));
                continue;
            }
            let lifting = self.put_back(Some(&step), begun);
            let left = tokio::select! {
                biased;
                left = lifting => left,
                _ = self.end(begun) => Vec::new(),
            };
            injection.troubles.extend(left);
        }
        injection.lifts.sort();
        Ok(())
    }
}
