//! The record of a run: its events, in the journal as they happen.

use super::events::{Begun, RunEvent};
use super::result::{RunResult, VariantResult};
use crate::journal::{Journal, JournalError};

/// A run's events so far.
pub(super) struct Record {
    result: RunResult,
    /// Events that are not in the journal yet, as JSON. Where it cannot be written they are tried again with the next.
    pending: Vec<String>,
    failure: Option<JournalError>,
}

impl Record {
    /// The record of a run that begins.
    pub(super) fn new(begun: &Begun) -> Self {
        Self {
            result: RunResult::begun(begun.clone()),
            pending: Vec::new(),
            failure: None,
        }
    }

    /// Takes an event down. Samples, of which there are many, and what is over in a moment wait for the next event of another
    /// kind: while hosts stand still, nothing waits for a disk.
    pub(super) fn take(&mut self, journal: &Journal, event: RunEvent) {
        self.pending
            .push(serde_json::to_string(&event).unwrap_or_default());
        let run = &self.result.run;
        let written = match &event {
            RunEvent::Sampled(_)
            | RunEvent::Acting { .. }
            | RunEvent::Acted { .. }
            | RunEvent::Probed(_) => None,
            RunEvent::RunEnded { verdict, .. } => {
                Some(journal.end_run(run, verdict.as_str(), &self.pending))
            }
            _ => Some(journal.add_events(run, &self.pending)),
        };
        if let Some(written) = written {
            if written.is_ok() {
                self.pending.clear();
            }
            self.failure = written.err();
        }
        self.result.take(event);
    }

    /// What has come of the variants so far.
    pub(super) fn variants(&self) -> &[VariantResult] {
        let world = self.result.worlds.last();
        world.map_or(&[], |world| &world.variants)
    }

    /// The result, and why not all of it is in the journal, where that is so.
    pub(super) fn end(self) -> (RunResult, Option<JournalError>) {
        (self.result, self.failure)
    }
}
