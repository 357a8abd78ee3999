//! Tables and their migrations.

use std::time::Duration;

use rusqlite::Connection;

/// The version that this twin writes.
pub(super) const VERSION: i64 = 4;

/// How long a write waits for another twin's.
const BUSY: Duration = Duration::from_secs(10);

const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE operations (
    id INTEGER PRIMARY KEY,
    lab TEXT NOT NULL,
    verb TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    outcome TEXT
) STRICT;
CREATE TABLE steps (
    operation INTEGER NOT NULL REFERENCES operations(id),
    step TEXT NOT NULL,
    what TEXT NOT NULL,
    inverse TEXT,
    intended_at TEXT NOT NULL,
    took_ms INTEGER,
    failure TEXT,
    PRIMARY KEY (operation, step)
) STRICT;
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    lab TEXT NOT NULL,
    scenario TEXT NOT NULL,
    seed INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    verdict TEXT,
    document TEXT
) STRICT;
CREATE TABLE acts (
    run TEXT NOT NULL REFERENCES runs(id),
    sequence INTEGER NOT NULL,
    variant TEXT NOT NULL,
    step TEXT NOT NULL,
    action TEXT NOT NULL,
    undo TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('intended', 'acted', 'undone', 'left')),
    claimed_by TEXT,
    note TEXT,
    PRIMARY KEY (run, sequence)
) STRICT;
CREATE TABLE evidence (
    run TEXT NOT NULL REFERENCES runs(id),
    variant TEXT NOT NULL,
    probe TEXT NOT NULL,
    source TEXT NOT NULL,
    at TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX acts_open ON acts(run) WHERE state IN ('intended', 'acted');
",
    "
-- What it takes to finish an operation that was broken off.
ALTER TABLE operations ADD COLUMN plan TEXT;
",
    "
-- When an act that lasts for a time only is to be put back at the latest.
ALTER TABLE acts ADD COLUMN lift_at TEXT;
",
    "
-- Whether an act was done to this machine rather than inside a host: putting the hosts back does not put it back.
ALTER TABLE acts ADD COLUMN outside INTEGER NOT NULL DEFAULT 0;
",
    "
-- The name of a run's lab, which may be gone when the run is asked for. Runs from before have none.
ALTER TABLE runs ADD COLUMN lab_name TEXT NOT NULL DEFAULT '';
",
];

/// Sets the connection up.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Brings the tables to [`VERSION`]; returns the version found, which may be a later one.
pub(super) fn migrate(connection: &Connection) -> rusqlite::Result<i64> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found >= VERSION {
        return Ok(found);
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Another twin may have migrated while this one waited.
    let current: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let missing = MIGRATIONS
        .iter()
        .skip(usize::try_from(current).unwrap_or(0));
    let migrated = missing
        .map(|migration| connection.execute_batch(migration))
        .collect::<rusqlite::Result<Vec<()>>>();
    match migrated.and_then(|_| connection.pragma_update(None, "user_version", VERSION)) {
        Ok(()) => connection.execute_batch("COMMIT").map(|()| VERSION),
        Err(error) => {
            connection.execute_batch("ROLLBACK")?;
            Err(error)
        }
    }
}
