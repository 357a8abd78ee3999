//! What all of a run shares, and what ends it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::events::{RunEvent, RunPhase, RunWatch};
use super::file::{Resolved, Scenario};
use super::record::Record;
use super::result::TargetHost;
use super::{ScenarioError, World};
use crate::journal::Journal;
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

pub(super) struct Engine<'e> {
    pub(super) scenario: &'e Scenario,
    pub(super) choice: &'e Choice,
    pub(super) world: &'e World,
    pub(super) journal: &'e Journal,
    pub(super) watch: &'e dyn RunWatch,
    pub(super) record: Mutex<Record>,
    pub(super) interrupt: watch::Receiver<bool>,
    /// Why the variant is stopped, once a stop condition holds.
    pub(super) stop: watch::Sender<Option<String>>,
}

/// The hosts that a variant acts on, as they were found when the run began.
pub(super) fn targets(world: &World, variant: &Resolved) -> Result<Vec<TargetHost>, ScenarioError> {
    let target = |name: &String| {
        let host = world.found.host(name)?;
        Ok(TargetHost {
            host: name.clone(),
            domain: host.spec.name.clone(),
            uuid: host.spec.uuid.to_string(),
        })
    };
    variant.targets.iter().map(target).collect()
}

impl Engine<'_> {
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
    pub(super) async fn interrupted(&self) {
        let mut interrupt = self.interrupt.clone();
        if interrupt.wait_for(|asked| *asked).await.is_err() {
            // No process is left that could.
            std::future::pending::<()>().await;
        }
    }

    /// Does something to its end; an interrupt that comes meanwhile leaves it `hurried` for that.
    pub(super) async fn unless_interrupted<T>(
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

    /// Passes on what happens, and takes it down.
    pub(super) fn happens(&self, event: RunEvent) {
        self.watch.happened(&event);
        self.record().take(self.journal, event);
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self, phase: RunPhase) {
        self.happens(RunEvent::PhaseBegun { phase });
    }

    pub(super) fn note(&self, text: &str) {
        let text = text.to_owned();
        self.happens(RunEvent::Note { text });
    }
}
