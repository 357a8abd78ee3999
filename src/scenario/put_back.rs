//! What a run puts back itself.

use std::time::Duration;

use super::ScenarioError;
use super::engine::Engine;
use super::events::RunEvent;
use super::result::{StepOutcome, StepResult};
use super::undo::{self, Hand, owner};
use crate::journal::OpenAct;

impl Engine<'_> {
    /// Whether a step's act waits for the undo of a later one.
    pub(super) fn waits(&self, step: &str) -> Result<bool, ScenarioError> {
        let open = self.journal.open_acts(self.world.found.record.uuid)?;
        let mut own = open.iter().filter(|act| act.run == self.world.run);
        Ok(own.any(|act| act.step == step && undo::waits(act, &open)))
    }

    /// Puts back what the run has open, or one step of it, and takes it down; returns what is left.
    pub(super) async fn put_back(&self, only: Option<&str>, begun: Duration) -> Vec<String> {
        let (world, owner) = (self.world, owner("run"));
        let mut open = match self.journal.open_acts(world.found.record.uuid) {
            Ok(open) => open,
            Err(error) => return vec![format!("what is not put back cannot be read: {error}")],
        };
        open.retain(|act| {
            let chosen = only.is_none_or(|step| act.step == step);
            act.run == world.run && chosen
        });
        let undo = async |act| {
            let from = world.since(begun);
            let hand = Hand::of_the_lab(&owner);
            let ended = undo::undo_one(world, self.journal, act, hand).await;
            (from, ended)
        };
        let mut left = Vec::new();
        let take = |act: &OpenAct, (from, ended)| {
            let step = self.undone(act, from, ended, &mut left, begun);
            self.happens(RunEvent::StepEnded(step));
        };
        undo::in_order(world, &open, undo, take).await;
        left
    }

    /// What is left still: who stands by may have been luckier meanwhile.
    pub(super) fn still_left(&self, left: Vec<String>) -> Vec<String> {
        let Ok(open) = self.journal.open_acts(self.world.found.record.uuid) else {
            return left;
        };
        let own = open.iter().filter(|act| act.run == self.world.run);
        let own = own.map(|act| {
            let start = format!("{}: ", act.step);
            let told = left.iter().find(|line| line.starts_with(&start));
            told.cloned()
                .unwrap_or_else(|| format!("{start}it is not put back"))
        });
        self.unfinished().into_iter().chain(own).collect()
    }

    /// Writes down how an undo ended, which was begun at `from`, in milliseconds since the variant's begin.
    fn undone(
        &self,
        act: &OpenAct,
        from: u64,
        ended: Result<String, String>,
        left: &mut Vec<String>,
        begun: Duration,
    ) -> StepResult {
        let (result, detail) = match ended {
            Ok(done) => (StepOutcome::Undone, done),
            Err(why) => {
                left.push(format!("{}: {why}", act.step));
                (StepOutcome::Left, why)
            }
        };
        StepResult {
            id: format!("undo {}", act.step),
            what: "put back".into(),
            result,
            detail,
            at_ms: from,
            took_ms: self.world.since(begun).saturating_sub(from),
        }
    }
}
