//! Leases: which process reverts an act. It has the act until it ends it, dies, or its time is over.

use std::fmt;
use std::str::FromStr;

use rusqlite::params;

use super::{ActState, Journal, JournalError};
use crate::clock::BootTime;

/// The process that has a lease. A process's number alone may become another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it does: `run`, `recover`, `stand-by`.
    pub role: String,
    /// Its number.
    pub process: u32,
    /// When the kernel started it, in ticks since boot.
    pub started: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.role, self.process, self.started)
    }
}

/// The text names no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it names no role, process and start")]
pub struct NoOwner;

impl FromStr for Owner {
    type Err = NoOwner;

    fn from_str(text: &str) -> Result<Self, NoOwner> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(NoOwner);
        let (role, process, started) = (next()?, next()?, next()?);
        Ok(Self {
            role: role.to_owned(),
            process: process.parse().map_err(|_| NoOwner)?,
            started: started.parse().map_err(|_| NoOwner)?,
        })
    }
}

impl Journal {
    /// Leases an act for reverting, until `expires`; false where another process has it, and may have. One that was left is not
    /// left any more, but tried.
    pub fn lease_act(
        &self,
        run: &str,
        sequence: i64,
        owner: &Owner,
        expires: &BootTime,
    ) -> Result<bool, JournalError> {
        let now = self.clock.boot();
        let sql = "UPDATE acts SET claimed_by = ?3, lease_boot = ?4, lease_ms = ?5,
                state = CASE state WHEN 'left' THEN 'acted' ELSE state END
            WHERE run = ?1 AND sequence = ?2 AND state IN ('intended', 'acted', 'left')
            AND (claimed_by IS NULL OR claimed_by = ?3
                OR lease_boot IS NOT NULL AND (lease_boot != ?6 OR lease_ms < ?7))";
        let values = params![
            run,
            sequence,
            owner.to_string(),
            expires.boot,
            expires.milliseconds(),
            now.boot,
            now.milliseconds()
        ];
        Ok(self.write(sql, values)? == 1)
    }

    /// Gives up the leases on a run's open acts of processes that do not live any more, and of those that could not put them back.
    pub fn release_leases(
        &self,
        run: &str,
        lives: &dyn Fn(&Owner) -> bool,
    ) -> Result<(), JournalError> {
        for (sequence, owner, state) in self.leases(run)? {
            let lives = owner.parse().is_ok_and(|owner| lives(&owner));
            if state == ActState::Left.as_str() || !lives {
                // It may be at it again by now.
                let sql = "UPDATE acts SET claimed_by = NULL, lease_boot = NULL, lease_ms = NULL
                    WHERE run = ?1 AND sequence = ?2 AND claimed_by = ?3 AND state = ?4";
                self.write(sql, params![run, sequence, owner, state])?;
            }
        }
        Ok(())
    }

    /// The leases on a run's open acts: the act, its owner, how far the act is.
    fn leases(&self, run: &str) -> Result<Vec<(i64, String, String)>, JournalError> {
        let connection = self.connection();
        let list = || -> rusqlite::Result<Vec<(i64, String, String)>> {
            let mut statement = connection.prepare(
                "SELECT sequence, claimed_by, state FROM acts
                 WHERE run = ?1 AND state != 'undone' AND claimed_by IS NOT NULL",
            )?;
            let rows =
                statement.query_map([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        };
        list().map_err(|error| self.fail(error))
    }
}
