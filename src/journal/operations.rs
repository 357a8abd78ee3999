//! Operations on a lab that have to be finished where they are broken off: baselines and restores.

use rusqlite::params;
use uuid::Uuid;

use super::{Journal, JournalError};

/// An operation that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationId(i64);

/// An operation that has not ended.
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
    /// Starts an operation that `twin recover` or a watchdog finishes where it is broken off; `plan` says what that takes.
    pub fn begin(&self, lab: Uuid, verb: &str, plan: &str) -> Result<OperationId, JournalError> {
        let sql = "INSERT INTO operations (lab, verb, started_at, plan) VALUES (?1, ?2, ?3, ?4)";
        self.write(sql, params![lab.to_string(), verb, self.now(), plan])?;
        Ok(OperationId(self.connection().last_insert_rowid()))
    }

    /// Returns a lab's operations that have not ended, the last one first. Those that need no finishing are an earlier twin's.
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

    /// Ends an operation.
    pub fn end(&self, operation: OperationId) -> Result<(), JournalError> {
        let sql = "UPDATE operations SET ended_at = ?2 WHERE id = ?1";
        self.write(sql, params![operation.0, self.now()]).map(drop)
    }

    /// Forgets a lab that is destroyed: its operations, and what its runs would still put back in it. The runs themselves and
    /// their events stay.
    pub fn forget(&self, lab: Uuid) -> Result<(), JournalError> {
        let lab = lab.to_string();
        let acts = "UPDATE acts SET state = 'undone', note = 'the lab was destroyed'
            WHERE state != 'undone' AND run IN (SELECT id FROM runs WHERE lab = ?1)";
        self.write(acts, [&lab])?;
        // Those are an earlier twin's.
        let steps =
            "DELETE FROM steps WHERE operation IN (SELECT id FROM operations WHERE lab = ?1)";
        self.write(steps, [&lab])?;
        self.write("DELETE FROM operations WHERE lab = ?1", [&lab])
            .map(drop)
    }
}
