//! Operations on a lab: `up`, `destroy` and the like, step by step.

use std::time::Duration;

use rusqlite::params;
use uuid::Uuid;

use super::{Journal, JournalError, now};

/// An operation that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(i64);

impl Journal {
    /// Starts an operation.
    pub fn begin(&self, lab: Uuid, verb: &str) -> Result<OperationId, JournalError> {
        let connection = self.connection();
        connection
            .execute(
                "INSERT INTO operations (lab, verb, started_at) VALUES (?1, ?2, ?3)",
                params![lab.to_string(), verb, now()],
            )
            .map_err(|error| self.fail(error))?;
        Ok(OperationId(connection.last_insert_rowid()))
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
        self.connection()
            .execute(sql, params![operation.0, step, what, inverse, now()])
            .map_err(|error| self.fail(error))?;
        Ok(())
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
        self.connection()
            .execute(sql, params![operation.0, step, took_ms, failure])
            .map_err(|error| self.fail(error))?;
        Ok(())
    }

    /// Ends an operation.
    pub fn end(&self, operation: OperationId, outcome: &str) -> Result<(), JournalError> {
        let sql = "UPDATE operations SET ended_at = ?2, outcome = ?3 WHERE id = ?1";
        self.connection()
            .execute(sql, params![operation.0, now(), outcome])
            .map_err(|error| self.fail(error))?;
        Ok(())
    }

    /// Forgets a lab that is destroyed: its operations and runs.
    pub fn forget(&self, lab: Uuid) -> Result<(), JournalError> {
        let lab = lab.to_string();
        let connection = self.connection();
        let forget = || {
            connection.execute(
                "DELETE FROM steps WHERE operation IN (SELECT id FROM operations WHERE lab = ?1)",
                [&lab],
            )?;
            connection.execute("DELETE FROM operations WHERE lab = ?1", [&lab])
        };
        forget().map(drop).map_err(|error| self.fail(error))
    }
}
