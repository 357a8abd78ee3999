//! The journal: labs, operations with their steps, runs with their acts and events. The one place that knows SQL.
//!
//! An act is written down before it is done, with what it takes to undo it:
//!
//! ```text
//!  intent ─> act ─> look ─> revert
//! ```
//!
//! How an act goes from one state to another, and what it cannot come to, is [`ActState::next`]'s to say; the database refuses
//! the rest. What an act reverts to is a state, so that a crash between intent and act does no harm.
//!
//! `SQLite` in WAL mode with `synchronous=FULL`: what a call has returned from is on the disk.

mod crash;
mod events;
mod leases;
mod operations;
mod runs;
mod schema;
mod states;

pub use leases::{NoOwner, Owner};
pub use operations::{OperationId, UnfinishedOperation};
pub use runs::{Expiry, Intent, OpenAct, RunRow};
pub use states::{ActEvent, ActState, IllegalChange};

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::clock::Clock;
use crate::storage;

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
    /// The file cannot be looked at.
    #[error("the journal {path} cannot be looked at: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
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
            Self::Newer { .. } => "use the twin that wrote it, or another --state-dir".into(),
            Self::Unreadable { .. } => "run as root, or with a --state-dir of your own".into(),
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
            Self::Sqlite { source, .. } if source.to_string().contains("locked") => {
                "another twin is writing to it: run the same command again".into()
            }
            Self::Sqlite { path, .. } => format!(
                "copy {0} and what is beside it ({0}-wal, {0}-shm) to a safe place before you repair it; without it labs are \
                 still found by their marks, but `twin recover` does not know what runs have left",
                path.display()
            ),
            Self::Directory { .. } => {
                "see that the state directory can be made and has space".into()
            }
        }
    }
}

/// What [`Journal::die_at`] unwinds with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Died;

/// An open journal.
pub struct Journal {
    path: PathBuf,
    connection: Mutex<Connection>,
    death: crash::Death,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Journal").field(&self.path).finish()
    }
}

impl Journal {
    /// Opens the journal in `directory`, making and migrating it as needed.
    pub fn open(directory: &Path, clock: &Arc<dyn Clock>) -> Result<Self, JournalError> {
        let path = directory.join("journal.sqlite");
        make_file(directory, &path).map_err(|source| JournalError::Directory {
            path: directory.to_owned(),
            source,
        })?;
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
            clock: Arc::clone(clock),
        })
    }

    /// Opens the journal in `directory` where there is one.
    pub fn open_existing(
        directory: &Path,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>, JournalError> {
        if exists(directory)? {
            Self::open(directory, clock).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Opens the journal in `directory` to read it, where there is one: nothing is made or migrated, and who may not write it can.
    /// One of an earlier twin, which may be at work, is read from a copy in memory.
    pub fn look(directory: &Path, clock: &Arc<dyn Clock>) -> Result<Option<Self>, JournalError> {
        if !exists(directory)? {
            return Ok(None);
        }
        let path = directory.join("journal.sqlite");
        let fail = |source| JournalError::Sqlite {
            path: path.clone(),
            source,
        };
        let may_write = nix::unistd::access(&path, nix::unistd::AccessFlags::W_OK).is_ok();
        let opened = if may_write {
            schema::existing(&path)
        } else {
            schema::read_only(&path)
        };
        let (connection, found) = opened.map_err(fail)?;
        if found > schema::VERSION {
            return Err(JournalError::Newer {
                path,
                found,
                known: schema::VERSION,
            });
        }
        let connection = if found < schema::VERSION {
            schema::migrated_copy(&connection).map_err(fail)?
        } else {
            connection
        };
        // What was opened to look is not written to by mistake.
        let query_only = connection.pragma_update(None, "query_only", true);
        query_only.map_err(fail)?;
        Ok(Some(Self {
            path,
            connection: Mutex::new(connection),
            death: crash::Death::default(),
            clock: Arc::clone(clock),
        }))
    }

    /// Now, as the journal writes it: RFC 3339 in UTC.
    fn now(&self) -> String {
        self.clock.now().to_string()
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes; it is on the disk when this returns.
    fn write(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, JournalError> {
        self.point();
        let changed = self
            .connection()
            .execute(sql, values)
            .map_err(|error| self.fail(error))?;
        self.point();
        Ok(changed)
    }

    /// One point of those at which tests have twin die. There is one before and after each write; and one can be passed between
    /// two writes: in a moment in which the hosts stand still, and a write would keep them so.
    pub fn point(&self) {
        crash::point();
        if self.death.passed() {
            std::panic::resume_unwind(Box::new(Died));
        }
    }

    /// From the `point`-th point on, each point of this journal panics with [`Died`]. In release builds this does nothing.
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

/// Makes the file before `SQLite` does, which gives its log and index the mode and owner of it: members of the group libvirt may
/// read them, and no other user. One of an older twin's is corrected.
fn make_file(directory: &Path, path: &Path) -> std::io::Result<()> {
    storage::see_to_passage(directory)?;
    let mut made = std::fs::OpenOptions::new();
    made.append(true).create(true).mode(0o600);
    // Opened only where it has to be made: closing it would let go of locks that this process has on it.
    if !path.exists() {
        made.open(path)?;
        storage::sync_directory(directory)?;
    }
    for suffix in ["sqlite", "sqlite-wal", "sqlite-shm"] {
        let file = path.with_extension(suffix);
        let open = |found: std::fs::Metadata| found.permissions().mode() & 0o777 != 0o640;
        if file.metadata().is_ok_and(open) {
            storage::share(&file)?;
        }
    }
    Ok(())
}

/// Whether there is a journal in a directory.
fn exists(directory: &Path) -> Result<bool, JournalError> {
    let path = directory.join("journal.sqlite");
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(JournalError::Unreadable { path, source }),
    }
}
