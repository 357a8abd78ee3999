//! Operations on a lab: `up`, `destroy` and the like, step by step.

use std::time::Duration;

use rusqlite::params;
use uuid::Uuid;

use super::{Journal, JournalError};

/// An operation that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(i64);

/// An operation that was begun with a plan and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedOperation {
    /// Its id.
    pub id: OperationId,
    /// The verb.
    pub verb: String,
    /// What it takes to finish it, JSON.
    pub plan: String,
}

impl Journal {
    /// Starts an operation that needs no finishing when it is broken off: doing it again does.
    pub fn begin(&self, lab: Uuid, verb: &str) -> Result<OperationId, JournalError> {
        self.start(lab, verb, None)
    }

    /// Starts an operation that `twin recover` or a watchdog finishes where it is broken off; `plan` says what that takes.
    pub fn begin_planned(
        &self,
        lab: Uuid,
        verb: &str,
        plan: &str,
    ) -> Result<OperationId, JournalError> {
        self.start(lab, verb, Some(plan))
    }

    fn start(
        &self,
        lab: Uuid,
        verb: &str,
        plan: Option<&str>,
    ) -> Result<OperationId, JournalError> {
        let sql = "INSERT INTO operations (lab, verb, started_at, plan) VALUES (?1, ?2, ?3, ?4)";
        self.write(sql, params![lab.to_string(), verb, self.now(), plan])?;
        Ok(OperationId(self.connection().last_insert_rowid()))
    }

    /// Returns a lab's planned operations that have not ended, the last one first.
    pub fn unfinished(&self, lab: Uuid) -> Result<Vec<UnfinishedOperation>, JournalError> {
        let connection = self.connection();
        let list = || -> rusqlite::Result<Vec<UnfinishedOperation>> {
            let mut statement = connection.prepare(
                "SELECT id, verb, plan FROM operations
                 WHERE lab = ?1 AND ended_at IS NULL AND plan IS NOT NULL ORDER BY id DESC",
            )?;
            let rows = statement.query_map([lab.to_string()], |row| {
                Ok(UnfinishedOperation {
                    id: OperationId(row.get(0)?),
                    verb: row.get(1)?,
                    plan: row.get(2)?,
                })
            })?;
            rows.collect()
        };
        list().map_err(|error| self.fail(error))
    }

    /// Writes down that a step is about to be done.
    pub fn intend(
        &self,
        operation: OperationId,
        step: &str,
        what: &str,
        inverse: Option<&str>,
    ) -> Result<(), JournalError> {
        let sql = "INSERT OR REPLACE INTO steps (operation, step, what, inverse, intended_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.write(sql, params![operation.0, step, what, inverse, self.now()])
            .map(drop)
    }

    /// Writes down how a step ended.
    pub fn done(
        &self,
        operation: OperationId,
        step: &str,
        took: Duration,
        failure: Option<&str>,
    ) -> Result<(), JournalError> {
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let sql = "UPDATE steps SET took_ms = ?3, failure = ?4 WHERE operation = ?1 AND step = ?2";
        self.write(sql, params![operation.0, step, took_ms, failure])
            .map(drop)
    }

    /// Ends an operation.
    pub fn end(&self, operation: OperationId, outcome: &str) -> Result<(), JournalError> {
        let sql = "UPDATE operations SET ended_at = ?2, outcome = ?3 WHERE id = ?1";
        self.write(sql, params![operation.0, self.now(), outcome])
            .map(drop)
    }

    /// Forgets a lab that is destroyed: its operations, and what its runs would still put back in it. The runs themselves and
    /// their evidence stay.
    pub fn forget(&self, lab: Uuid) -> Result<(), JournalError> {
        let lab = lab.to_string();
        let acts = "UPDATE acts SET state = 'undone', note = 'the lab was destroyed'
            WHERE state != 'undone' AND run IN (SELECT id FROM runs WHERE lab = ?1)";
        self.write(acts, [&lab])?;
        let steps =
            "DELETE FROM steps WHERE operation IN (SELECT id FROM operations WHERE lab = ?1)";
        self.write(steps, [&lab])?;
        self.write("DELETE FROM operations WHERE lab = ?1", [&lab])
            .map(drop)
    }
}
