//! What happened in runs, event by event.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{Journal, JournalError};

fn insert(transaction: &Transaction<'_>, run: &str, events: &[String]) -> rusqlite::Result<()> {
    let next = "SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE run = ?1";
    let first: i64 = transaction.query_row(next, [run], |row| row.get(0))?;
    let mut insert =
        transaction.prepare("INSERT INTO events (run, sequence, event) VALUES (?1, ?2, ?3)")?;
    for (sequence, event) in (first..).zip(events) {
        insert.execute(params![run, sequence, event])?;
    }
    Ok(())
}

fn in_one<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

impl Journal {
    /// Adds events, as JSON, to those of a run, in one transaction. There is no [`Journal::point`] here: nothing but the run's
    /// report hangs on them.
    pub fn add_events(&self, run: &str, events: &[String]) -> Result<(), JournalError> {
        in_one(&mut self.connection(), |transaction| {
            insert(transaction, run, events)
        })
        .map_err(|error| self.fail(error))
    }

    /// Ends a run with its verdict and its last events, in one transaction.
    pub fn end_run(&self, run: &str, verdict: &str, events: &[String]) -> Result<(), JournalError> {
        self.point();
        let sql = "UPDATE runs SET ended_at = ?2, verdict = ?3 WHERE id = ?1";
        in_one(&mut self.connection(), |transaction| {
            insert(transaction, run, events)?;
            transaction.execute(sql, params![run, self.now(), verdict])
        })
        .map_err(|error| self.fail(error))?;
        self.point();
        Ok(())
    }

    /// A run's events, as JSON, in their order.
    pub fn events(&self, run: &str) -> Result<Vec<String>, JournalError> {
        let connection = self.connection();
        let list = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT event FROM events WHERE run = ?1 ORDER BY sequence";
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([run], |row| row.get(0))?;
            rows.collect()
        };
        list().map_err(|error| self.fail(error))
    }
}
