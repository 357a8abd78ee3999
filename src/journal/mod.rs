//! The journal: labs, operations with their steps, runs with their acts and evidence. The one place that knows SQL.
//!
//! An act is written down before it is done, with what it takes to undo it:
//!
//! ```text
//!  intended ──acted──> acted ──undone──> undone
//!      │                 └──failed to undo──> left      (DIRTY)
//!      └──────────────────undone──────────> undone      (a crash between intent and act: undo sets, so it is safe)
//! ```
//!
//! `SQLite` in WAL mode with `synchronous=FULL`: what a call has returned from is on the disk.

mod crash;
mod operations;
mod runs;
mod schema;

pub use operations::{OperationId, UnfinishedOperation};
pub use runs::{ActState, Intent, OpenAct, RunRow};

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// `SQLite` said so.
    #[error("the journal {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file was written by a later twin.
    #[error("the journal {path} has version {found}, and this twin knows {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The last version known.
        known: i64,
    },
    /// A test has it dead.
    #[error("the journal {path} is dead: a test said so")]
    Died {
        /// The file.
        path: PathBuf,
    },
    /// The directory cannot be made.
    #[error("cannot make {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl JournalError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Died { .. } => "none: it is a test".into(),
            Self::Newer { .. } => "use the twin that wrote it, or another --state-dir".into(),
            Self::Directory { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                "run as root, or with a --state-dir of your own".into()
            }
            Self::Sqlite { source, .. }
                if source.to_string().contains("readonly")
                    || source.to_string().contains("unable to open") =>
            {
                "run as root, or with a --state-dir of your own".into()
            }
            Self::Sqlite { source, .. }
                if source.to_string().contains("full")
                    || source.to_string().contains("disk I/O") =>
            {
                "free space on the state disk, then run the same command again".into()
            }
            Self::Sqlite { path, .. } => format!(
                "move {} away; labs are found by their marks",
                path.display()
            ),
            Self::Directory { .. } => {
                "see that the state directory can be made and has space".into()
            }
        }
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Mutex<Connection>,
    death: crash::Death,
}

impl Journal {
    /// Opens the journal in `directory`, making and migrating it as needed.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(directory).map_err(|source| JournalError::Directory {
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join("journal.sqlite");
        let fail = |source| JournalError::Sqlite {
            path: path.clone(),
            source,
        };
        let connection = Connection::open(&path).map_err(fail)?;
        schema::prepare(&connection).map_err(fail)?;
        let found = schema::migrate(&connection).map_err(fail)?;
        if found > schema::VERSION {
            return Err(JournalError::Newer {
                path,
                found,
                known: schema::VERSION,
            });
        }
        Ok(Self {
            path,
            connection: Mutex::new(connection),
            death: crash::Death::default(),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes; it is on the disk when this returns.
    fn write(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, JournalError> {
        self.point()?;
        let changed = self
            .connection()
            .execute(sql, values)
            .map_err(|error| self.fail(error))?;
        self.point()?;
        Ok(changed)
    }

    /// One point of those at which tests have twin die.
    fn point(&self) -> Result<(), JournalError> {
        crash::point();
        if self.death.passed() {
            let path = self.path.clone();
            return Err(JournalError::Died { path });
        }
        Ok(())
    }

    /// A point between two writes at which tests have twin die as well: for a moment in which the hosts stand still, and a
    /// write would keep them so.
    pub fn pass(&self) -> Result<(), JournalError> {
        self.point()
    }

    /// From the `point`-th point on, this journal does nothing any more, as if the process had died there. There is a point
    /// before and after each write. In release builds it does nothing.
    pub fn die_at(&self, point: u64) {
        self.death.set(point);
    }

    fn fail(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }
}

/// Now, as the journal writes it: RFC 3339 in UTC.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
