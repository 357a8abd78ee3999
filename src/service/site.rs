//! A jumphost with its labs, and the one that a verb is about.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ServiceError;
use crate::guest::{Guest, GuestError};
use crate::journal::Journal;
use crate::lab::{
    Drivers, Event, Found, FoundHost, LabError, Layout, Lock, LockError, Watch, choose, find_all,
};
use crate::scenario::World;
use crate::snapshot::Set;
use crate::units::Seed;

/// How long a verb waits for a recovery that has the lab's lock, and between two tries.
const LOCK_WAIT: Duration = Duration::from_secs(60);
const LOCK_LOOK: Duration = Duration::from_millis(100);

/// What a verb was asked to act on.
#[derive(Clone, Debug)]
pub struct Place {
    /// The hypervisor.
    pub connect: String,
    /// The lab; the only one there is when not named.
    pub lab: Option<String>,
    /// The state directory.
    pub state: PathBuf,
}

/// A jumphost with its labs, and the one that a verb is about.
pub struct Site {
    place: Place,
    /// The state directory that was asked for.
    asked: Layout,
    /// The one that has the lab's files, once the lab is found.
    found: OnceLock<Layout>,
    drivers: OnceLock<Drivers>,
    connect: fn(&str) -> Drivers,
    watch: Arc<dyn Watch>,
    /// Told the state directory once that is known: logs go there.
    settled: fn(&Path),
}

/// Whether two paths lead to one directory.
fn same_directory(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

impl Site {
    /// Makes it; nothing is opened yet. `connect` makes the drivers, `watch` takes remarks, and `settled` is called with the
    /// state directory once that is known.
    pub fn new(
        place: Place,
        connect: fn(&str) -> Drivers,
        watch: Arc<dyn Watch>,
        settled: fn(&Path),
    ) -> Self {
        // From the root, so that libvirt and a later twin mean the same by it.
        let state = std::path::absolute(&place.state).unwrap_or_else(|_| place.state.clone());
        Self {
            place,
            asked: Layout::new(state),
            found: OnceLock::new(),
            drivers: OnceLock::new(),
            connect,
            watch,
            settled,
        }
    }

    fn remark(&self, what: &str) {
        self.watch.tell(Event::Note(what));
    }

    /// The lab that was named.
    pub fn named(&self) -> Option<&str> {
        self.place.lab.as_deref()
    }

    /// The state directory with the lab's files, or the one that was asked for while no lab is found.
    pub fn layout(&self) -> &Layout {
        self.found.get().unwrap_or(&self.asked)
    }

    /// The drivers; made when first asked for, so that verbs that need none start at once.
    pub fn drivers(&self) -> &Drivers {
        self.drivers
            .get_or_init(|| (self.connect)(&self.place.connect))
    }

    /// How long ago `started` was, a reading of the clock.
    pub fn since(&self, started: Duration) -> Duration {
        self.drivers().clock.elapsed().saturating_sub(started)
    }

    /// Opens the journal.
    pub fn journal(&self) -> Result<Journal, ServiceError> {
        let journal = Journal::open(self.layout().state(), &self.drivers().clock)?;
        (self.settled)(self.layout().state());
        Ok(journal)
    }

    /// Opens the journal where there is one: for verbs that must not make it, and write to it.
    pub fn existing_journal(&self) -> Result<Option<Journal>, ServiceError> {
        let state = self.layout().state();
        Ok(Journal::open_existing(state, &self.drivers().clock)?)
    }

    /// Opens the journal to read it, where there is one.
    pub fn journal_if_there(&self) -> Result<Option<Journal>, ServiceError> {
        let state = self.layout().state();
        Ok(Journal::look(state, &self.drivers().clock)?)
    }

    /// Refuses a hypervisor of another machine: bridges, rules and files that a lab needs are of this one.
    pub async fn here(&self) -> Result<(), ServiceError> {
        let machine = self.drivers().hypervisor.inventory.machine().await?;
        machine.elsewhere.map_or(Ok(()), |why| {
            Err(ServiceError::Elsewhere {
                connect: self.place.connect.clone(),
                why,
            })
        })
    }

    /// All labs, by their marks and by the directories in the state directory that was asked for.
    pub async fn labs(&self) -> Result<Vec<Found>, ServiceError> {
        self.here().await?;
        Ok(find_all(self.drivers(), &self.asked).await?)
    }

    /// Goes by the state directory that a lab's marks name, from here on.
    pub fn follow(&self, found: &Found) {
        let Some(state) = found.state() else { return };
        if self.found.get().is_some() || same_directory(&state, self.asked.state()) {
            return;
        }
        self.remark(&format!(
            "lab {} keeps its files in {}, as its marks say: that is used, not {}",
            found.record.name,
            state.display(),
            self.asked.state().display()
        ));
        // Set before by another call: it is the same lab.
        let _ = self.found.set(Layout::new(state));
    }

    /// Finds the lab that the verb is about.
    pub async fn lab(&self) -> Result<Found, ServiceError> {
        let labs = self.labs().await?;
        let chosen = choose(labs, self.named());
        // A lab that is in the pool alone is not seen while that is not mounted.
        if chosen.is_err() {
            self.asked.need_pool()?;
        }
        let found = chosen?;
        self.follow(&found);
        self.layout().need_pool()?;
        self.layout().close();
        (self.settled)(self.layout().state());
        Ok(found)
    }

    /// The state directories of all labs of this machine that can be found, the one that was asked for first.
    pub async fn all_layouts(&self) -> Vec<Layout> {
        let mut layouts = Vec::new();
        if self.asked.state().exists() {
            layouts.push(self.asked.clone());
        }
        // Where libvirt cannot be asked, what is in the directory that was asked for is all there is to see.
        for found in self.labs().await.unwrap_or_default() {
            let Some(state) = found.state() else { continue };
            let known = |layout: &Layout| same_directory(layout.state(), &state);
            if !layouts.iter().any(known) {
                layouts.push(Layout::new(state));
            }
        }
        if layouts.is_empty() {
            layouts.push(self.asked.clone());
        }
        layouts
    }

    /// Finds the lab, takes its lock, and reads it again: what was found before may be old. Waits for a recovery only: the
    /// watchdog looks at the lab once more after another process has reverted all.
    pub async fn locked_lab(&self, verb: &str) -> Result<(Found, Lock), ServiceError> {
        self.locked_lab_after(verb, |held| held.is_by("recover"))
            .await
    }

    /// The same, and waits for the process that is changing it.
    pub async fn locked_lab_in_time(&self, verb: &str) -> Result<(Found, Lock), ServiceError> {
        self.locked_lab_after(verb, |_| true).await
    }

    async fn locked_lab_after(
        &self,
        verb: &str,
        waits_for: impl Fn(&LockError) -> bool,
    ) -> Result<(Found, Lock), ServiceError> {
        let clock = self.drivers().clock.clone();
        let until = clock.elapsed() + LOCK_WAIT;
        let found = self.lab().await?;
        let mut told = false;
        let lock = loop {
            match self.lock(&found, verb) {
                Err(LabError::Lock(error @ LockError::Held { .. }))
                    if waits_for(&error) && clock.elapsed() < until =>
                {
                    if !told {
                        self.remark(&format!("{error}; waiting for it"));
                        told = true;
                    }
                    clock.sleep(LOCK_LOOK).await;
                }
                outcome => break outcome?,
            }
        };
        let found = self.lab().await?;
        for stray in &found.strays {
            self.remark(&stray.to_string());
        }
        Ok((found, lock))
    }

    /// Takes a lab's lock.
    pub fn lock(&self, found: &Found, verb: &str) -> Result<Lock, LabError> {
        let record = &found.record;
        let clock = self.drivers().clock.as_ref();
        Ok(Lock::lab(record.uuid, record.name.as_str(), verb, clock)?)
    }

    /// The way into a host.
    pub fn guest(&self, found: &Found, host: &FoundHost) -> Result<Arc<dyn Guest>, LabError> {
        let none = || GuestError::Unreachable {
            why: format!("the image of {} has no way in", host.name),
        };
        let way = host.way(self.layout(), &found.networks).ok_or_else(none)?;
        Ok(self.drivers().guests.open(&way))
    }

    /// Joins up what reverting acts takes.
    pub fn world(&self, found: Found) -> World {
        World {
            drivers: self.drivers().clone(),
            layout: self.layout().clone(),
            found,
            seed: Seed(0),
            run: String::new(),
            lock: None,
        }
    }

    /// Joins up what acting on baselines takes.
    pub fn set<'s>(
        &'s self,
        found: &'s Found,
        journal: &'s Journal,
        watch: &'s dyn Watch,
    ) -> Set<'s> {
        Set {
            found,
            drivers: self.drivers(),
            layout: self.layout(),
            journal,
            watch,
            lock: None,
        }
    }
}
