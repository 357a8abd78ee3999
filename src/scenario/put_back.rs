//! What a run puts back itself: last act first, and what takes its time does not hold up the others.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::ScenarioError;
use super::engine::{Engine, since};
use super::undo::{self, claimer};
use crate::journal::{JournalError, OpenAct};
use crate::report::ScenarioStepDocument;

/// How long an undo may take before the next one that does not follow it begins beside it: a boot, or a guest that does not
/// answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// An undo that has ended, and when it was begun, in milliseconds since the variant's begin.
type Ended<'a> = (
    &'a OpenAct,
    u64,
    Result<Result<String, String>, JournalError>,
);

impl Engine<'_> {
    /// Whether a step's act waits for the undo of a later one.
    pub(super) fn waits(&self, step: &str) -> Result<bool, ScenarioError> {
        let open = self.journal.open_acts(self.world.found.record.uuid)?;
        let mut own = open.iter().filter(|act| act.run == self.world.run);
        Ok(own.any(|act| act.step == step && undo::waits(act, &open)))
    }

    /// Puts back what the run has open, or one step of it, and adds it to the steps; returns what is left.
    pub(super) async fn put_back(
        &self,
        steps: &mut Vec<ScenarioStepDocument>,
        only: Option<&str>,
        begun: Duration,
    ) -> Result<Vec<String>, ScenarioError> {
        let (world, claimer) = (self.world, claimer("run"));
        let mut open = self.journal.open_acts(world.found.record.uuid)?;
        open.retain(|act| {
            let chosen = only.is_none_or(|step| act.step == step);
            act.run == world.run && chosen
        });
        let undo = async |act| -> Ended<'_> {
            let from = since(world, begun);
            let ended = undo::undo_one(world, self.journal, act, &claimer).await;
            (act, from, ended)
        };
        let mut waiting: Vec<&OpenAct> = open.iter().collect();
        let mut under_way: Vec<&OpenAct> = Vec::new();
        let mut running = FuturesUnordered::new();
        let mut left = Vec::new();
        loop {
            let free = waiting.iter().enumerate().position(|(index, act)| {
                let before = waiting.iter().take(index).chain(&under_way);
                !undo::follows(act, before.copied())
            });
            if let Some(free) = free {
                let act = waiting.remove(free);
                under_way.push(act);
                running.push(undo(act));
            }
            // The last one that nothing can begin beside is waited for however long it takes.
            let more = !waiting.is_empty() && free.is_some();
            tokio::select! {
                biased;
                ended = running.next() => {
                    let Some((act, from, ended)) = ended else { break };
                    under_way.retain(|other| other.sequence != act.sequence);
                    steps.push(self.undone(act, from, ended?, &mut left, begun));
                }
                () = world.drivers.clock.sleep(PATIENCE), if more => {}
            }
        }
        Ok(left)
    }

    /// Writes down how an undo ended.
    fn undone(
        &self,
        act: &OpenAct,
        from: u64,
        ended: Result<String, String>,
        left: &mut Vec<String>,
        begun: Duration,
    ) -> ScenarioStepDocument {
        let (result, detail) = match ended {
            Ok(done) => ("undone", done),
            Err(why) => {
                left.push(format!("{}: {why}", act.step));
                ("left", why)
            }
        };
        ScenarioStepDocument {
            id: format!("undo {}", act.step),
            what: "put back".into(),
            result: result.into(),
            detail,
            at_ms: from,
            took_ms: since(self.world, begun).saturating_sub(from),
        }
    }
}
