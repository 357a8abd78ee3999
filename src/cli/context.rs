//! What every verb is given: the flags, the printer, the drivers, and the lab with the state directory that has its files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::failure::Failure;
use super::global::{DEFAULT_CONNECT, DEFAULT_STATE_DIR, Global};
use super::ui::Ui;
use super::{logging, wiring};
use crate::journal::Journal;
use crate::lab::{Drivers, Found, LabError, Layout, Lock, LockError, Watch, choose, find_all};
use crate::scenario::World;
use crate::snapshot::Set;
use crate::units::Seed;

/// How long a verb waits for a recovery that has the lab's lock, and between two tries.
const LOCK_WAIT: Duration = Duration::from_secs(60);
const LOCK_LOOK: Duration = Duration::from_millis(100);

/// What every verb is given.
pub(crate) struct Context<'c> {
    pub(crate) global: &'c Global,
    pub(crate) ui: &'c Ui,
    /// The state directory that was asked for.
    asked: Layout,
    /// The one that has the lab's files, once the lab is found.
    found: OnceLock<Layout>,
    drivers: OnceLock<Drivers>,
}

/// A path from the root, so that libvirt and a later twin mean the same by it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether two paths lead to one directory.
fn same_directory(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

impl<'c> Context<'c> {
    /// Makes it from the global flags; nothing is opened yet.
    pub(crate) fn new(global: &'c Global, ui: &'c Ui) -> Self {
        Self {
            global,
            ui,
            asked: Layout::new(absolute(&global.state_dir)),
            found: OnceLock::new(),
            drivers: OnceLock::new(),
        }
    }

    /// The state directory with the lab's files, or the one that was asked for while no lab is found.
    pub(crate) fn layout(&self) -> &Layout {
        self.found.get().unwrap_or(&self.asked)
    }

    /// The drivers; made when first asked for, so that verbs that need none start at once.
    pub(crate) fn drivers(&self) -> &Drivers {
        self.drivers
            .get_or_init(|| wiring::lab(&self.global.connect))
    }

    /// Opens the journal.
    pub(crate) fn journal(&self) -> Result<Journal, Failure> {
        let journal = Journal::open(self.layout().state(), &self.drivers().clock)?;
        logging::begin(self.layout().state());
        Ok(journal)
    }

    /// Opens the journal where there is one: for verbs that must not make it, and write to it.
    pub(crate) fn existing_journal(&self) -> Result<Option<Journal>, Failure> {
        Ok(Journal::open_existing(
            self.layout().state(),
            &self.drivers().clock,
        )?)
    }

    /// Opens the journal to read it, where there is one.
    pub(crate) fn journal_if_there(&self) -> Result<Option<Journal>, Failure> {
        Ok(Journal::look(self.layout().state(), &self.drivers().clock)?)
    }

    /// The command line that does something with a lab, to be told where it would work: with the global flags of this one.
    pub(crate) fn command(&self, lab: &str, rest: &[String]) -> String {
        let mut words = vec!["twin".to_owned(), "--lab".into(), lab.into()];
        if self.layout().state() != Path::new(DEFAULT_STATE_DIR) {
            let directory = self.layout().state().display().to_string();
            words.extend(["--state-dir".into(), directory]);
        }
        if self.global.connect != DEFAULT_CONNECT {
            words.extend(["--connect".into(), self.global.connect.clone()]);
        }
        as_typed(words.into_iter().chain(rest.iter().cloned()))
    }

    /// Refuses a hypervisor of another machine: bridges, rules and files that a lab needs are of this one.
    pub(crate) async fn here(&self) -> Result<(), Failure> {
        let machine = self.drivers().hypervisor.machine().await?;
        match machine.elsewhere {
            None => Ok(()),
            Some(why) => Err(Failure::machine(
                format!(
                    "{} is not this machine's libvirt: {why}",
                    self.global.connect
                ),
                vec![
                    "run twin on the machine that the guests run on: a lab's disks, bridges and rules are there"
                        .into(),
                ],
            )),
        }
    }

    /// All labs, by their marks and by the directories in the state directory that was asked for.
    pub(crate) async fn labs(&self) -> Result<Vec<Found>, Failure> {
        self.here().await?;
        Ok(find_all(self.drivers(), &self.asked).await?)
    }

    /// Goes by the state directory that a lab's marks name, from here on.
    pub(crate) fn follow(&self, found: &Found) {
        let Some(state) = found.state() else { return };
        if self.found.get().is_some() || same_directory(&state, self.asked.state()) {
            return;
        }
        self.ui.remark(&format!(
            "lab {} keeps its files in {}, as its marks say: that is used, not {}",
            found.record.name,
            state.display(),
            self.asked.state().display()
        ));
        // Set before by another call: it is the same lab.
        let _ = self.found.set(Layout::new(state));
    }

    /// Finds the lab that the verb is about.
    pub(crate) async fn lab(&self) -> Result<Found, Failure> {
        let labs = self.labs().await?;
        let chosen = choose(labs, self.global.lab.as_deref());
        // A lab that is in the pool alone is not seen while that is not mounted.
        if chosen.is_err() {
            self.asked.need_pool()?;
        }
        let found = chosen?;
        self.follow(&found);
        self.layout().need_pool()?;
        self.layout().close();
        logging::begin(self.layout().state());
        Ok(found)
    }

    /// The state directories of all labs of this machine that can be found, the one that was asked for first.
    pub(crate) async fn all_layouts(&self) -> Vec<Layout> {
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

    /// Finds the lab, takes its lock, and reads it again: what was found before may be old. Waits for a recovery only: one
    /// the watchdog looks at the lab once more after another process has put all back.
    pub(crate) async fn locked_lab(&self, verb: &str) -> Result<(Found, Lock), Failure> {
        self.locked_lab_after(verb, |held| held.is_by("recover"))
            .await
    }

    /// The same, and waits for the process that is changing it.
    pub(crate) async fn locked_lab_in_time(&self, verb: &str) -> Result<(Found, Lock), Failure> {
        self.locked_lab_after(verb, |_| true).await
    }

    async fn locked_lab_after(
        &self,
        verb: &str,
        waits_for: impl Fn(&LockError) -> bool,
    ) -> Result<(Found, Lock), Failure> {
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
                        self.ui.remark(&format!("{error}; waiting for it"));
                        told = true;
                    }
                    clock.sleep(LOCK_LOOK).await;
                }
                outcome => break outcome?,
            }
        };
        let found = self.lab().await?;
        for stray in &found.strays {
            self.ui.remark(&stray.to_string());
        }
        Ok((found, lock))
    }

    /// Takes a lab's lock.
    pub(crate) fn lock(&self, found: &Found, verb: &str) -> Result<Lock, LabError> {
        let record = &found.record;
        Ok(Lock::lab(
            record.uuid,
            record.name.as_str(),
            verb,
            self.drivers().clock.as_ref(),
        )?)
    }

    /// Joins up what putting acts back takes.
    pub(crate) fn world(&self, found: Found) -> World {
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
    pub(crate) fn set<'s>(
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

/// Words as a shell reads them.
fn as_typed(words: impl Iterator<Item = String>) -> String {
    // The quoting of a word with a NUL fails, and no argument of a process has one.
    words
        .map(|word| shlex::try_quote(&word).map_or_else(|_| word.clone(), Cow::into_owned))
        .collect::<Vec<_>>()
        .join(" ")
}

/// This command as a shell reads it.
pub(crate) fn this_command() -> String {
    as_typed(std::env::args())
}

/// Flags that a variable can stand for, which sudo drops.
const VARIABLES: [(&str, &str); 3] = [
    ("--lab", "TWIN_LAB"),
    ("--state-dir", "TWIN_STATE_DIR"),
    ("--connect", "TWIN_CONNECT"),
];

/// This command under sudo, as a shell reads it.
pub(crate) fn this_command_as_root() -> String {
    let words: Vec<String> = std::env::args().collect();
    as_root(&words, |variable| std::env::var(variable).ok())
}

fn as_root(words: &[String], variable: impl Fn(&str) -> Option<String>) -> String {
    let is_given = |flag: &str| {
        let with_value = format!("{flag}=");
        let mut own = words.iter().take_while(|word| *word != "--");
        own.any(|word| word == flag || word.starts_with(&with_value))
    };
    let stood_for = VARIABLES.iter().filter(|(flag, _)| !is_given(flag));
    let stood_for = stood_for.filter_map(|(flag, name)| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some([(*flag).to_owned(), value])
    });
    let (program, rest) = words.split_at(words.len().min(1));
    let all = ["sudo".to_owned()].into_iter();
    let all = all
        .chain(program.iter().cloned())
        .chain(stood_for.flatten());
    let all = all.chain(rest.iter().cloned());
    as_typed(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_sudo_names_what_variables_stand_for() {
        let asked = |words: &[&str], set: &[(&str, &str)]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let set = |name: &str| {
                let set = set.iter().find(|(variable, _)| *variable == name);
                set.map(|(_, value)| (*value).to_owned())
            };
            as_root(&words, set)
        };
        let none: &[(&str, &str)] = &[];
        assert_eq!(asked(&["twin", "up", "a b"], none), "sudo twin up 'a b'");
        let set = [
            ("TWIN_LAB", "x"),
            ("TWIN_STATE_DIR", "/srv/a b"),
            ("TWIN_CONNECT", ""),
        ];
        assert_eq!(
            asked(&["twin", "down"], &set),
            "sudo twin --lab x --state-dir '/srv/a b' down"
        );
        assert_eq!(
            asked(
                &["twin", "--lab=y", "exec", "a", "--", "ls", "--state-dir"],
                &set
            ),
            "sudo twin --state-dir '/srv/a b' '--lab=y' exec a -- ls --state-dir"
        );
    }
}
