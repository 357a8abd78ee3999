//! Tables and their migrations.

use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

/// The version that this twin writes: one a migration.
#[expect(clippy::cast_possible_wrap, reason = "a handful")]
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// How long a write waits for another twin's.
const BUSY: Duration = Duration::from_secs(10);

/// Pages that are copied before another twin may write, and how long it is let.
const PAGES: i32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);

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
    OF_NAMES,
    "
-- What happened in runs, event by event: reports are made of it. Runs from before have a document instead, and evidence that
-- it repeats.
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs(id),
    sequence INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
) STRICT, WITHOUT ROWID;
",
    "
-- When an act expires: which boot of the machine, and milliseconds after it. The wall clock, by which lift_at goes, can be set.
ALTER TABLE acts ADD COLUMN expires_boot TEXT;
ALTER TABLE acts ADD COLUMN expires_ms INTEGER;
",
    "
-- What was never read: steps, and operations that have ended. The tables stay as they are: an earlier twin may be at work.
DELETE FROM steps WHERE operation IN (SELECT id FROM operations WHERE ended_at IS NOT NULL);
DELETE FROM operations WHERE ended_at IS NOT NULL;
",
    ACT_STATES,
    "
-- Until when the process that reverts an act has it: a process may hang.
ALTER TABLE acts ADD COLUMN lease_boot TEXT;
ALTER TABLE acts ADD COLUMN lease_ms INTEGER;
",
];

/// What [`ActState::next`](super::ActState::next) allows, as the database enforces it.
const ACT_STATES: &str = "
CREATE TRIGGER acts_state BEFORE UPDATE OF state ON acts
WHEN OLD.state != NEW.state AND OLD.state || ' ' || NEW.state NOT IN (
    'intended acted', 'intended undone', 'intended left',
    'acted undone', 'acted left',
    'left acted', 'left undone',
    'undone acted'
)
BEGIN
    SELECT raise(ABORT, 'no act of this state comes to that one');
END;
";

const OF_NAMES: &str = "
-- The name of a run's lab, which may be gone when the run is asked for. Runs from before have none.
ALTER TABLE runs ADD COLUMN lab_name TEXT NOT NULL DEFAULT '';
";

/// Sets the connection up.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Opens a journal as it is; returns its version too. Where the machine ended while it was written, its log is put in order.
pub(super) fn existing(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    look(Connection::open_with_flags(path, flags)?)
}

fn look(connection: Connection) -> rusqlite::Result<(Connection, i64)> {
    connection.busy_timeout(BUSY)?;
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((connection, version))
}

/// Opens a journal that may only be read; returns its version too.
///
/// A reader takes part in the log's index, which only who may write can make: where no process has the journal open, and all of
/// the log has found its way into the file, the file is all there is, and is read as it stands.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let shared = Connection::open_with_flags(path, flags).and_then(look);
    let log = path.with_extension("sqlite-wal");
    let settled = log.metadata().is_ok_and(|log| log.len() == 0) || !log.exists();
    if shared.is_ok() || !settled {
        return shared;
    }
    let escaped = path.display().to_string();
    let escaped = escaped
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    let still = format!("file:{escaped}?immutable=1");
    Connection::open_with_flags(still, flags | OpenFlags::SQLITE_OPEN_URI).and_then(look)
}

/// A copy in memory of the journal of an earlier twin, brought to [`VERSION`]; the file stays as it is.
pub(super) fn migrated_copy(earlier: &Connection) -> rusqlite::Result<Connection> {
    let mut copy = Connection::open_in_memory()?;
    Backup::new(earlier, &mut copy)?.run_to_completion(PAGES, PAUSE, None)?;
    migrate(&copy)?;
    Ok(copy)
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
    let migrated = steps(connection, current);
    match migrated.and_then(|()| connection.pragma_update(None, "user_version", VERSION)) {
        Ok(()) => connection.execute_batch("COMMIT").map(|()| VERSION),
        Err(error) => {
            connection.execute_batch("ROLLBACK")?;
            Err(error)
        }
    }
}

/// Does the migrations after `current`.
fn steps(connection: &Connection, current: i64) -> rusqlite::Result<()> {
    let missing = MIGRATIONS
        .iter()
        .skip(usize::try_from(current).unwrap_or(0));
    for migration in missing {
        // Some twins made the last column and called that version 4, as those did that had none.
        if !(*migration == OF_NAMES && has_names(connection)?) {
            connection.execute_batch(migration)?;
        }
    }
    Ok(())
}

fn has_names(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('runs') WHERE name = 'lab_name')";
    connection.query_row(sql, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::journal::Journal;

    /// Whatever twin wrote it, and at which of its steps.
    #[test]
    fn a_journal_of_any_earlier_twin_is_brought_up_to_date() {
        let named = |version: i64| {
            MIGRATIONS
                .iter()
                .take(usize::try_from(version).expect("small"))
        };
        let earlier = (0..=VERSION).map(|version| (version, version));
        for (steps, told) in earlier.chain([(5, 4)]) {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("journal.sqlite");
            let connection = Connection::open(&file).expect("opens");
            for migration in named(steps) {
                connection.execute_batch(migration).expect("migrates");
            }
            connection
                .pragma_update(None, "user_version", told)
                .expect("told");
            let row = "INSERT INTO runs (id, lab, scenario, seed, started_at) VALUES ('old', '', 's', 1, '')";
            let has_run = steps > 0 && connection.execute(row, []).is_ok();
            // An `up` of the earlier twin's that is under way.
            if steps > 0 {
                let up = "INSERT INTO operations (id, lab, verb, started_at) VALUES (1, '00000000-0000-0000-0000-000000000000', 'up', '');
                    INSERT INTO steps (operation, step, what, intended_at) VALUES (1, 's', 'w', '');";
                connection.execute_batch(up).expect("written");
            }
            // A baseline of its that was broken off.
            if steps > 1 {
                let snapshot = "INSERT INTO operations (id, lab, verb, started_at, plan) VALUES (2, '00000000-0000-0000-0000-000000000000', 'snapshot', '', '{}');
                    INSERT INTO steps (operation, step, what, intended_at) VALUES (2, 'capture', 'w', '');";
                connection.execute_batch(snapshot).expect("written");
            }
            drop(connection);
            // Who only looks sees what there is, and changes nothing.
            let before = std::fs::read(&file).expect("read");
            let looked = Journal::look(directory.path(), &SystemClock::shared()).expect("looks");
            let runs = looked.expect("there").runs(None).expect("read");
            assert_eq!(runs.len(), usize::from(has_run), "{steps}, told {told}");
            assert_eq!(std::fs::read(&file).expect("read"), before, "{steps}");

            let journal = Journal::open(directory.path(), &SystemClock::shared());
            let journal = journal.unwrap_or_else(|error| panic!("{steps}, told {told}: {error}"));
            let lab = (uuid::Uuid::nil(), "lab");
            journal.begin_run("r", lab, "s", 1).expect("begun");
            assert_eq!(journal.runs(Some("lab")).expect("read").len(), 1, "{steps}");
            let open = journal.unfinished(lab.0).expect("read");
            assert_eq!(open.len(), usize::from(steps > 1), "{steps}");
            for operation in open {
                journal.end(operation.id).expect("ended");
            }
            assert_eq!(journal.unfinished(lab.0).expect("read"), [], "{steps}");
            let earlier = "INSERT OR REPLACE INTO steps (operation, step, what, intended_at) VALUES (1, 't', 'w', '')";
            let went_on = journal.connection().execute(earlier, []);
            assert_eq!(
                went_on.is_ok(),
                steps > 0,
                "{steps}: the earlier twin goes on"
            );
            journal.forget(lab.0).expect("forgotten");
        }
    }
}
