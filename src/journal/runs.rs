//! Runs of scenarios: acts with their undos.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::{ActState, Journal, JournalError, Owner};
use crate::clock::BootTime;

/// A run as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// When it started.
    pub started_at: String,
    /// When it ended, where it did.
    pub ended_at: Option<String>,
    /// Its verdict, where there is one.
    pub verdict: Option<String>,
    /// The name of the lab that it was in, which may be gone; nothing where an older twin ran it.
    pub lab: Option<String>,
    /// Its document, where it ended.
    pub document: Option<String>,
}

/// An act that is not put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAct {
    /// The run.
    pub run: String,
    /// Its place in the run.
    pub sequence: i64,
    /// The step.
    pub step: String,
    /// The action.
    pub action: String,
    /// What puts it back, JSON.
    pub undo: String,
    /// When it expires, where it lasts for a time only.
    pub expires: Option<Expiry>,
    /// Why it could not be put back, where that was tried.
    pub why_left: Option<String>,
    /// Whether it was done to this machine rather than inside a host.
    pub outside: bool,
}

/// When an act expires: from then on the watchdog may revert it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// By the time since the machine booted.
    Boot(BootTime),
    /// By the wall clock, as earlier twins wrote it.
    Wall(jiff::Timestamp),
}

/// An act that is about to be done.
#[derive(Clone, Debug)]
pub struct Intent<'i> {
    /// The run.
    pub run: &'i str,
    /// The variant.
    pub variant: &'i str,
    /// The step.
    pub step: &'i str,
    /// The action.
    pub action: &'i str,
    /// What puts it back, JSON.
    pub undo: &'i str,
    /// When it expires, where it lasts for a time only.
    pub expires: Option<BootTime>,
    /// Whether it is done to this machine rather than inside a host.
    pub outside: bool,
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        id: row.get(0)?,
        scenario: row.get(1)?,
        seed: row.get::<_, i64>(2)?.cast_unsigned(),
        started_at: row.get(3)?,
        ended_at: row.get(4)?,
        verdict: row.get(5)?,
        lab: row.get(6)?,
        document: row.get(7)?,
    })
}

const RUN_COLUMNS: &str = "id, scenario, seed, started_at, ended_at, verdict, lab_name, document";

/// Reads when an act expires, from the columns from the seventh on.
fn expiry(row: &Row<'_>) -> rusqlite::Result<Option<Expiry>> {
    if let (Some(boot), Some(since)) = (row.get(6)?, row.get::<_, Option<i64>>(7)?) {
        let since = Duration::from_millis(since.unsigned_abs());
        return Ok(Some(Expiry::Boot(BootTime { boot, since })));
    }
    let wall: Option<String> = row.get(8)?;
    Ok(wall.and_then(|text| text.parse().ok()).map(Expiry::Wall))
}

/// Inserts an act and returns its sequence, which is read before the INSERT: `INSERT .. RETURNING` gives its row before it is
/// committed, and hides that the commit failed.
fn insert(connection: &mut Connection, act: &Intent<'_>) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let next = "SELECT coalesce(max(sequence), 0) + 1 FROM acts WHERE run = ?1";
    let sequence: i64 = transaction.query_row(next, [act.run], |row| row.get(0))?;
    let sql =
        "INSERT INTO acts (run, sequence, variant, step, action, undo, state, outside, expires_boot, expires_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'intended', ?7, ?8, ?9)";
    let expires = act.expires.as_ref();
    let values = params![
        act.run,
        sequence,
        act.variant,
        act.step,
        act.action,
        act.undo,
        act.outside,
        expires.map(|at| &at.boot),
        expires.map(BootTime::milliseconds)
    ];
    transaction.execute(sql, values)?;
    transaction.commit()?;
    Ok(sequence)
}

impl Journal {
    /// Writes what changes the one act that it is about; fails where there is no such act.
    fn write_act(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), JournalError> {
        match self.write(sql, values)? {
            1 => Ok(()),
            changed => Err(self.fail(rusqlite::Error::StatementChangedRows(changed))),
        }
    }

    /// Starts a run in a lab of this identity and name.
    pub fn begin_run(
        &self,
        id: &str,
        lab: (Uuid, &str),
        scenario: &str,
        seed: u64,
    ) -> Result<(), JournalError> {
        let sql = "INSERT INTO runs (id, lab, lab_name, scenario, seed, started_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (lab, name) = (lab.0.to_string(), lab.1);
        let values = params![id, lab, name, scenario, seed.cast_signed(), self.now()];
        self.write(sql, values).map(drop)
    }

    /// Ends the runs of a lab whose twin was killed: they prove nothing. Called with the lab's lock held.
    pub fn end_killed_runs(&self, lab: Uuid) -> Result<(), JournalError> {
        let sql = "UPDATE runs SET ended_at = ?2, verdict = 'inconclusive' WHERE lab = ?1 AND ended_at IS NULL";
        self.write(sql, params![lab.to_string(), self.now()])
            .map(drop)
    }

    /// Writes an act down before it is done; returns its place in the run.
    pub fn intend_act(&self, act: &Intent<'_>) -> Result<i64, JournalError> {
        self.point();
        let sequence = insert(&mut self.connection(), act).map_err(|error| self.fail(error))?;
        self.point();
        Ok(sequence)
    }

    /// Writes down that an act has been done; also where the watchdog put it back before it took effect: it is open again then.
    pub fn mark_acted(&self, run: &str, sequence: i64) -> Result<(), JournalError> {
        let sql = "UPDATE acts SET state = 'acted', note = NULL, claimed_by = NULL, lease_boot = NULL, lease_ms = NULL WHERE run = ?1 AND sequence = ?2";
        self.write_act(sql, params![run, sequence])
    }

    /// Writes down how an undo ended, where the process that did it has the act still; returns whether it has.
    pub fn mark_act(
        &self,
        (run, sequence): (&str, i64),
        by: &Owner,
        state: ActState,
        note: &str,
    ) -> Result<bool, JournalError> {
        let sql = "UPDATE acts SET state = ?4, note = ?5
            WHERE run = ?1 AND sequence = ?2 AND claimed_by = ?3 AND state != 'undone'";
        let changed = self.write(
            sql,
            params![run, sequence, by.to_string(), state.as_str(), note],
        )?;
        Ok(changed == 1)
    }

    /// Sets when an act expires.
    pub fn expire_act_at(
        &self,
        run: &str,
        sequence: i64,
        at: &BootTime,
    ) -> Result<(), JournalError> {
        let sql =
            "UPDATE acts SET expires_boot = ?3, expires_ms = ?4 WHERE run = ?1 AND sequence = ?2";
        self.write_act(sql, params![run, sequence, at.boot, at.milliseconds()])
    }

    /// Returns a lab's acts that are not put back, last one first.
    pub fn open_acts(&self, lab: Uuid) -> Result<Vec<OpenAct>, JournalError> {
        self.acts(Some(lab), false)
    }

    /// The labs that have acts which are not put back.
    pub fn labs_with_open_acts(&self) -> Result<Vec<Uuid>, JournalError> {
        let connection = self.connection();
        let list = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare(
                "SELECT DISTINCT runs.lab FROM acts JOIN runs ON runs.id = acts.run
                 WHERE state IN ('intended', 'acted', 'left') ORDER BY runs.lab",
            )?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        let labs = list().map_err(|error| self.fail(error))?;
        Ok(labs.iter().filter_map(|lab| lab.parse().ok()).collect())
    }

    /// Returns open acts, of a lab or of all, that expired longer than `grace` ago and that no process is putting back; also
    /// those that could not be put back.
    pub fn expired_acts(
        &self,
        lab: Option<Uuid>,
        grace: Duration,
    ) -> Result<Vec<OpenAct>, JournalError> {
        let open = self.acts(lab, true)?;
        let (boot, wall) = (self.clock.boot(), self.clock.now());
        let is_over = |act: &OpenAct| match act.expires.clone() {
            Some(Expiry::Boot(at)) => at.later(grace).is_over(&boot),
            Some(Expiry::Wall(at)) => at.checked_add(grace).is_ok_and(|at| at < wall),
            None => false,
        };
        Ok(open.into_iter().filter(is_over).collect())
    }

    /// How far an act is.
    pub fn act_state(&self, run: &str, sequence: i64) -> Result<Option<ActState>, JournalError> {
        let sql = "SELECT state FROM acts WHERE run = ?1 AND sequence = ?2";
        let word: Option<String> = self
            .connection()
            .query_row(sql, params![run, sequence], |row| row.get(0))
            .optional()
            .map_err(|error| self.fail(error))?;
        Ok(word.and_then(|word| {
            ActState::ALL
                .into_iter()
                .find(|state| state.as_str() == word)
        }))
    }

    /// Open acts; of those that expire, where `free`, the ones that no process is putting back.
    fn acts(&self, lab: Option<Uuid>, free: bool) -> Result<Vec<OpenAct>, JournalError> {
        let further = if free {
            "AND (expires_boot IS NOT NULL OR lift_at IS NOT NULL)
             AND (claimed_by IS NULL OR state = 'left' OR lease_boot != ?2 OR lease_ms < ?3)"
        } else {
            "AND ?2 IS NOT NULL AND ?3 IS NOT NULL"
        };
        let now = self.clock.boot();
        let connection = self.connection();
        let list = || -> rusqlite::Result<Vec<OpenAct>> {
            let mut statement = connection.prepare(&format!(
                "SELECT run, sequence, step, action, undo, outside, expires_boot, expires_ms, lift_at, CASE state WHEN 'left' THEN note END FROM acts JOIN runs ON runs.id = acts.run
                 WHERE (?1 IS NULL OR runs.lab = ?1) AND state IN ('intended', 'acted', 'left') {further}
                 ORDER BY runs.started_at DESC, run, sequence DESC",
            ))?;
            let lab = lab.map(|lab| lab.to_string());
            let values = params![lab, now.boot, now.milliseconds()];
            let rows = statement.query_map(values, |row| {
                Ok(OpenAct {
                    run: row.get(0)?,
                    sequence: row.get(1)?,
                    step: row.get(2)?,
                    action: row.get(3)?,
                    undo: row.get(4)?,
                    outside: row.get(5)?,
                    expires: expiry(row)?,
                    why_left: row.get(9)?,
                })
            })?;
            rows.collect()
        };
        list().map_err(|error| self.fail(error))
    }

    /// Closes the open acts inside hosts of runs that began after `since`, and of `run`: the hosts are what they were then.
    /// What was done to this machine is still to be put back.
    pub fn supersede_acts(
        &self,
        lab: Uuid,
        since: &str,
        run: Option<&str>,
        note: &str,
    ) -> Result<(), JournalError> {
        let sql =
            "UPDATE acts SET state = 'undone', note = ?3 WHERE state != 'undone' AND NOT outside
            AND run IN (SELECT id FROM runs WHERE lab = ?1 AND (started_at > ?2 OR id = ?4))";
        self.write(sql, params![lab.to_string(), since, note, run])
            .map(drop)
    }

    /// Returns the runs of the labs of this name, which may be gone, or all; the last one first.
    pub fn runs(&self, lab: Option<&str>) -> Result<Vec<RunRow>, JournalError> {
        let connection = self.connection();
        let list = || -> rusqlite::Result<Vec<RunRow>> {
            let sql = format!(
                "SELECT {RUN_COLUMNS} FROM runs WHERE ?1 IS NULL OR lab_name = ?1 ORDER BY started_at DESC"
            );
            let mut statement = connection.prepare(&sql)?;
            let rows = statement.query_map([lab], run_row)?;
            rows.collect()
        };
        list().map_err(|error| self.fail(error))
    }

    /// Returns one run by its id.
    pub fn run(&self, id: &str) -> Result<Option<RunRow>, JournalError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1");
        self.connection()
            .query_row(&sql, [id], run_row)
            .optional()
            .map_err(|error| self.fail(error))
    }

    /// Returns one run by its id, or by a beginning of it that no other has.
    pub fn run_beginning(&self, start: &str) -> Result<Option<RunRow>, JournalError> {
        if let Some(whole) = self.run(start)? {
            return Ok(Some(whole));
        }
        let runs = self.runs(None)?.into_iter();
        let mut begin_so = runs.filter(|row| row.id.starts_with(start));
        let found = begin_so.next();
        Ok(found.filter(|_| begin_so.next().is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::clock::{Clock, SystemClock};
    use crate::journal::ActEvent;

    fn journal() -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Journal::open(directory.path(), &SystemClock::shared()).expect("opens");
        (directory, journal)
    }

    fn owner(process: u32) -> Owner {
        Owner {
            role: "run".into(),
            process,
            started: 1,
        }
    }

    /// Leases an act for a minute.
    fn lease(journal: &Journal, act: i64, process: u32) -> bool {
        let expires = journal.clock.boot().later(Duration::from_secs(60));
        let leased = journal.lease_act("r1", act, &owner(process), &expires);
        leased.expect("asked")
    }

    fn intent<'i>(run: &'i str, step: &'i str) -> Intent<'i> {
        Intent {
            run,
            variant: "bug",
            step,
            action: "b",
            undo: "{}",
            expires: None,
            outside: false,
        }
    }

    #[test]
    fn a_run_is_found_by_a_beginning_that_no_other_has() {
        let (_directory, journal) = journal();
        for id in ["ab1", "ab12", "c3"] {
            let lab = (Uuid::nil(), "lab");
            journal.begin_run(id, lab, "s", 1).expect("begun");
        }
        let found = |start| {
            journal
                .run_beginning(start)
                .expect("read")
                .map(|row| row.id)
        };
        assert_eq!(found("ab1").as_deref(), Some("ab1"));
        assert_eq!(found("c").as_deref(), Some("c3"));
        assert_eq!((found("ab"), found("d")), (None, None));
        let row = journal.run("c3").expect("read").expect("there");
        assert_eq!(row.lab.as_deref(), Some("lab"));
    }

    /// A clock that is set by hand: the boot, seconds after it, and seconds of the wall clock.
    struct SetClock(std::sync::Mutex<(&'static str, u64, i64)>);

    #[async_trait::async_trait]
    impl Clock for SetClock {
        fn now(&self) -> jiff::Timestamp {
            let wall = self.0.lock().expect("whole").2;
            jiff::Timestamp::from_second(wall).expect("a time")
        }

        fn elapsed(&self) -> Duration {
            self.boot().since
        }

        fn boot(&self) -> BootTime {
            let (boot, since, _) = *self.0.lock().expect("whole");
            BootTime {
                boot: boot.into(),
                since: Duration::from_secs(since),
            }
        }

        async fn sleep(&self, _: Duration) {}
    }

    /// A journal whose clock begins 90 s after boot `one`, at second 1000 of the wall clock.
    fn with_set_clock() -> (tempfile::TempDir, Arc<SetClock>, Journal) {
        let directory = tempfile::tempdir().expect("a directory");
        let set = Arc::new(SetClock(std::sync::Mutex::new(("one", 90, 1000))));
        let clock: Arc<dyn Clock> = set.clone();
        let journal = Journal::open(directory.path(), &clock).expect("opens");
        (directory, set, journal)
    }

    #[test]
    fn an_act_expires_by_the_boot_clock_and_is_expired_while_no_process_has_it() {
        let (_directory, set, journal) = with_set_clock();
        let lab = Uuid::nil();
        journal
            .begin_run("r1", (lab, "lab"), "s", 1)
            .expect("begun");
        let timed = Intent {
            expires: Some(set.boot().later(Duration::from_secs(10))),
            ..intent("r1", "timed")
        };
        journal
            .intend_act(&intent("r1", "untimed"))
            .expect("written");
        let act = journal.intend_act(&timed).expect("written");
        let expired = |at, grace| {
            *set.0.lock().expect("whole") = at;
            let acts = journal.expired_acts(Some(lab), Duration::from_secs(grace));
            acts.expect("read").len()
        };
        assert_eq!(expired(("one", 99, 1000), 0), 0);
        assert_eq!(expired(("one", 101, 1000), 0), 1);
        assert_eq!(expired(("one", 101, 1000), 5), 0);
        // The wall clock may be set as one likes.
        assert_eq!(expired(("one", 99, 900_000), 0), 0);
        assert_eq!(expired(("two", 3, 1000), 0), 1, "of an earlier boot");
        let later = set.boot().later(Duration::from_secs(60));
        journal.expire_act_at("r1", act, &later).expect("written");
        assert_eq!(expired(("two", 60, 1000), 0), 0);
        assert_eq!(expired(("two", 64, 1000), 0), 1);
        assert!(lease(&journal, act, 1));
        assert_eq!(expired(("two", 64, 1000), 0), 0);
        assert_eq!(expired(("two", 125, 1000), 0), 1, "its owner hangs");
        let state = journal.act_state("r1", act).expect("read");
        assert_eq!(state, Some(ActState::Intended));
    }

    #[test]
    fn an_act_of_an_earlier_twin_expires_by_the_wall_clock() {
        let (_directory, set, journal) = with_set_clock();
        let lab = Uuid::nil();
        journal
            .begin_run("r1", (lab, "lab"), "s", 1)
            .expect("begun");
        journal.intend_act(&intent("r1", "old")).expect("written");
        let at = jiff::Timestamp::from_second(2000).expect("a time");
        let sql = "UPDATE acts SET lift_at = ?1";
        journal.write(sql, [at.to_string()]).expect("written");
        let expired = |wall| {
            set.0.lock().expect("whole").2 = wall;
            let acts = journal.expired_acts(Some(lab), Duration::from_secs(10));
            acts.expect("read").len()
        };
        assert_eq!((expired(2009), expired(2011)), (0, 1));
    }

    /// What the database refuses, and what [`ActState::next`] does, are the same.
    #[test]
    fn an_act_changes_as_its_states_allow() {
        let (_directory, journal) = journal();
        let lab = (Uuid::nil(), "lab");
        journal.begin_run("r1", lab, "s", 1).expect("begun");
        let act = journal.intend_act(&intent("r1", "s")).expect("written");
        let events = [
            ActEvent::Acted,
            ActEvent::Claimed,
            ActEvent::Reverted,
            ActEvent::Failed,
        ];
        for from in ActState::ALL {
            for to in ActState::ALL {
                let connection = journal.connection();
                let set = |state: ActState| {
                    let sql = "UPDATE acts SET state = ?1 WHERE sequence = ?2";
                    connection.execute(sql, params![state.as_str(), act])
                };
                // The trigger is out of the way while the test puts the act where it begins.
                let trigger: String = connection
                    .query_row(
                        "SELECT sql FROM sqlite_master WHERE name = 'acts_state'",
                        [],
                        |row| row.get(0),
                    )
                    .expect("there");
                connection
                    .execute_batch("DROP TRIGGER acts_state")
                    .expect("gone");
                set(from).expect("set");
                connection.execute_batch(&trigger).expect("back");
                let allowed = from == to || events.iter().any(|event| from.next(*event) == Ok(to));
                assert_eq!(set(to).is_ok(), allowed, "{from:?} to {to:?}");
            }
        }
        let undone = ActState::Undone.next(ActEvent::Failed);
        let why = undone.expect_err("it is over").to_string();
        assert_eq!(why, "Failed cannot happen to an act that is undone");
    }

    #[test]
    fn open_acts_come_last_first_and_end_with_undone() {
        let (_directory, journal) = journal();
        let lab = Uuid::nil();
        journal
            .begin_run("r1", (lab, "lab"), "s", u64::MAX)
            .expect("begun");
        let first = journal
            .intend_act(&intent("r1", "reserve"))
            .expect("written");
        let second = journal.intend_act(&intent("r1", "fill")).expect("written");
        journal.mark_acted("r1", second).expect("written");
        let open: Vec<i64> = journal
            .open_acts(lab)
            .expect("read")
            .iter()
            .map(|act| act.sequence)
            .collect();
        assert_eq!(open, [second, first]);
        assert!(lease(&journal, second, 1));
        journal
            .mark_act(("r1", second), &owner(1), ActState::Undone, "")
            .expect("written");
        assert_eq!(journal.open_acts(lab).expect("read").len(), 1);
        assert_eq!(journal.runs(Some("lab")).expect("read")[0].seed, u64::MAX);
        assert_eq!(journal.runs(None).expect("read").len(), 1);
        assert_eq!(journal.runs(Some("other")).expect("read").len(), 0);
    }

    #[test]
    fn a_restore_closes_acts_inside_hosts_of_later_runs_and_of_the_run_whose_baseline_it_is() {
        let (_directory, journal) = journal();
        let lab = Uuid::nil();
        for run in ["older", "own", "later"] {
            journal.begin_run(run, (lab, "lab"), "s", 1).expect("begun");
            journal.intend_act(&intent(run, "a")).expect("written");
        }
        let outside = Intent {
            outside: true,
            ..intent("later", "partition")
        };
        journal.intend_act(&outside).expect("written");
        let started = |id: &str| journal.run(id).expect("read").expect("there").started_at;
        let since = started("own");
        let open = || -> Vec<String> {
            let acts = journal.open_acts(lab).expect("read");
            acts.into_iter().map(|act| act.run).collect()
        };
        journal
            .supersede_acts(lab, &since, Some("own"), "restored")
            .expect("written");
        assert_eq!(open(), ["later", "older"]);
        assert!(journal.open_acts(lab).expect("read")[0].outside);
    }

    #[test]
    fn a_destroyed_lab_has_nothing_to_put_back_and_its_runs_stay() {
        let (_directory, journal) = journal();
        let (gone, other) = (Uuid::nil(), Uuid::max());
        for (run, lab) in [("r1", (gone, "gone")), ("r2", (other, "other"))] {
            journal.begin_run(run, lab, "s", 1).expect("begun");
            journal.intend_act(&intent(run, "a")).expect("written");
        }
        journal.forget(gone).expect("forgotten");
        assert_eq!(journal.open_acts(gone).expect("read"), []);
        assert_eq!(journal.open_acts(other).expect("read").len(), 1);
        assert_eq!(journal.runs(Some("gone")).expect("read").len(), 1);
    }

    #[test]
    fn an_act_is_leased_once_until_its_owner_is_dead_or_has_given_up() {
        let (_directory, journal) = journal();
        journal
            .begin_run("r1", (Uuid::nil(), "lab"), "s", 1)
            .expect("begun");
        let act = journal.intend_act(&intent("r1", "a")).expect("written");
        assert!(lease(&journal, act, 10));
        assert!(!lease(&journal, act, 11));
        let release = |alive: u32| journal.release_leases("r1", &|owner| owner.process == alive);
        release(10).expect("released");
        assert!(!lease(&journal, act, 11));
        release(12).expect("released");
        assert!(lease(&journal, act, 11));
        let mark = |by, state| {
            let marked = journal.mark_act(("r1", act), &owner(by), state, "");
            marked.expect("written");
            journal.act_state("r1", act).expect("read")
        };
        let left = Some(ActState::Left);
        assert_eq!(mark(11, ActState::Left), left);
        release(11).expect("one who has given up");
        assert!(lease(&journal, act, 12));
        let tried = Some(ActState::Acted);
        assert_eq!(mark(11, ActState::Undone), tried, "it has it no more");
        let undone = Some(ActState::Undone);
        assert_eq!(mark(12, ActState::Undone), undone);
        assert_eq!(mark(12, ActState::Left), undone);
        // It took effect after that.
        journal.mark_acted("r1", act).expect("written");
        assert_eq!(mark(12, ActState::Undone), Some(ActState::Acted));
        assert!(lease(&journal, act, 13));
    }

    #[test]
    fn a_lease_ends_with_its_time_and_with_the_boot() {
        let (_directory, set, journal) = with_set_clock();
        let lab = (Uuid::nil(), "lab");
        journal.begin_run("r1", lab, "s", 1).expect("begun");
        let act = journal.intend_act(&intent("r1", "a")).expect("written");
        assert!(lease(&journal, act, 10) && !lease(&journal, act, 11));
        *set.0.lock().expect("whole") = ("one", 151, 0);
        assert!(lease(&journal, act, 11), "the time of the other is over");
        let late = journal.mark_act(("r1", act), &owner(10), ActState::Undone, "");
        assert!(!late.expect("asked"), "it has it no more");
        *set.0.lock().expect("whole") = ("two", 5, 0);
        assert!(lease(&journal, act, 12), "the machine has booted");
        assert!("run 7".parse::<Owner>().is_err());
        assert_eq!(owner(7).to_string().parse(), Ok(owner(7)));
    }

    /// The disk takes the row, and is full when it is committed.
    #[test]
    fn an_intent_that_is_not_on_the_disk_is_none() {
        let (_directory, journal) = journal();
        journal
            .begin_run("r1", (Uuid::nil(), "lab"), "s", 1)
            .expect("begun");
        let late = "CREATE TABLE parents (id INTEGER PRIMARY KEY);
            CREATE TABLE late (id INTEGER REFERENCES parents(id) DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER full AFTER INSERT ON acts BEGIN INSERT INTO late VALUES (1); END;";
        journal.connection().execute_batch(late).expect("made");
        assert!(journal.intend_act(&intent("r1", "a")).is_err());
        assert_eq!(journal.open_acts(Uuid::nil()).expect("read"), []);
        assert!(journal.mark_acted("r1", 1).is_err(), "there is none");
        journal
            .connection()
            .execute_batch("DROP TRIGGER full")
            .expect("dropped");
        assert_eq!(journal.intend_act(&intent("r1", "a")).expect("written"), 1);
    }

    #[test]
    fn a_journal_of_a_later_twin_is_refused() {
        let (directory, journal) = journal();
        journal
            .connection()
            .pragma_update(None, "user_version", 99)
            .expect("written");
        drop(journal);
        assert!(matches!(
            Journal::open(directory.path(), &SystemClock::shared()),
            Err(JournalError::Newer { found: 99, .. })
        ));
    }
}
