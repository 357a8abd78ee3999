//! Runs on record.

use super::{ServiceError, Site};
use crate::journal::{Journal, RunRow};
use crate::scenario::{RunEvent, RunResult};

/// A run that is on record, and its events, a line of JSON each.
#[derive(Debug)]
pub struct Recorded {
    /// The run.
    pub row: RunRow,
    /// Its events.
    pub events: Vec<String>,
}

impl Recorded {
    /// What came of it, from its events; runs of earlier twins have a document.
    pub fn result(&self) -> Result<RunResult, ServiceError> {
        let unreadable = |why: String| ServiceError::UnreadableRun {
            run: self.row.id.clone(),
            why,
        };
        if let Some(text) = &self.row.document {
            return serde_json::from_str(text).map_err(|error| unreadable(error.to_string()));
        }
        if self.events.is_empty() {
            let run = self.row.id.clone();
            return Err(ServiceError::UnfinishedRun { run });
        }
        let read = |text: &String| serde_json::from_str(text);
        let events: Result<Vec<RunEvent>, _> = self.events.iter().map(read).collect();
        let events = events.map_err(|error| unreadable(error.to_string()))?;
        RunResult::of(events).ok_or_else(|| unreadable("it does not begin with its begin".into()))
    }
}

/// The run whose id begins so, or the last one of a lab, or of all; in the state directories of all labs.
pub async fn recorded(
    site: &Site,
    run: Option<&str>,
    lab: Option<&str>,
) -> Result<Option<Recorded>, ServiceError> {
    let mut found: Vec<Recorded> = Vec::new();
    for layout in site.all_layouts().await {
        let Some(journal) = Journal::look(layout.state(), &site.drivers().clock)? else {
            continue;
        };
        let row = match run {
            Some(id) => journal.run_beginning(id)?,
            None => journal.runs(lab)?.into_iter().next(),
        };
        if let Some(row) = row {
            let events = journal.events(&row.id)?;
            found.push(Recorded { row, events });
        }
    }
    found.sort_by(|one, other| other.row.started_at.cmp(&one.row.started_at));
    Ok(found.into_iter().next())
}
