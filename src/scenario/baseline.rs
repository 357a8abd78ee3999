//! The baseline of a run: what the lab is measured against after the undo, and the last resort where the undo fails.

use std::time::Duration;

use futures::future::join_all;

use super::World;
use super::engine::Engine;
use super::events::{RunEvent, RunPhase};
use super::fault::{CLOCK_STEP, before_a_pause};
use super::result::{StepOutcome, StepResult};
use super::safety::Policy;
use super::undo::{Hand, owner, undo_one};
use crate::journal::{Intent, Journal, JournalError};
use crate::lab::Watch;
use crate::snapshot::{self, Request, SelfTest, Set, SnapshotError, before_run as name};

/// Services that were put back are healthy again within this.
const SETTLE: Duration = Duration::from_secs(60);

/// What the clocks are called in the journal while the hosts stand still.
const CLOCKS: &str = "clocks";

/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(500);

fn set<'s>(world: &'s World, journal: &'s Journal, watch: &'s dyn Watch) -> Set<'s> {
    Set {
        found: &world.found,
        drivers: &world.drivers,
        layout: &world.layout,
        journal,
        watch,
        lock: world.lock.as_ref(),
    }
}

/// Takes it.
async fn take(
    set: Set<'_>,
    world: &World,
    scenario: &str,
    self_test: Option<&SelfTest>,
    interrupt: &tokio::sync::watch::Receiver<bool>,
) -> Result<String, SnapshotError> {
    let request = Request {
        name: name(&world.run),
        note: Some(format!("before {scenario}")),
        run: Some(world.run.clone()),
        ..Request::default()
    };
    let created = snapshot::create(set, &request, self_test, interrupt).await?;
    Ok(created.manifest.name)
}

/// Restores it, whatever was asked for meanwhile.
async fn restore(set: Set<'_>, name: &str) -> Result<(), SnapshotError> {
    let (_never, interrupt) = tokio::sync::watch::channel(false);
    snapshot::restore(set, name, snapshot::Options::default(), &interrupt)
        .await
        .map(drop)
}

impl Engine<'_> {
    /// Takes the run's baseline, where it has none yet and is to have one.
    pub(super) async fn reference(&self, reference: &mut Option<String>) -> Result<(), String> {
        if reference.is_some() || self.scenario.baseline == Policy::None {
            return Ok(());
        }
        self.phase(RunPhase::TakingBaseline);
        let set = set(self.world, self.journal, self.watch);
        let (name, tested) = (self.scenario.name.as_str(), self.choice.self_test.as_ref());
        let nothing = |error: JournalError| format!("no baseline, and nothing was done: {error}");
        self.remember_clocks().await.map_err(nothing)?;
        let taken = take(set, self.world, name, tested, &self.interrupt).await;
        self.set_clocks_right().await.map_err(nothing)?;
        match taken {
            Ok(taken) => *reference = Some(taken),
            Err(error) if self.scenario.baseline == Policy::Required || error.is_dirty() => {
                return Err(format!("no baseline, and nothing was done: {error}"));
            }
            Err(error) => self.note(&format!("going on without a baseline: {error}")),
        }
        Ok(())
    }

    /// Writes down how the clocks of the hosts are that run: they are about to stand still, and the process that finishes this run sets
    /// them right again.
    async fn remember_clocks(&self) -> Result<(), JournalError> {
        let world = self.world;
        let with_guest = world.found.hosts.iter();
        let with_guest = with_guest.filter(|host| host.spec.config.is_some());
        let looks = with_guest.map(|host| before_a_pause(world, host.name.as_str()));
        // One that does not answer is off.
        for captured in join_all(looks).await.into_iter().flatten() {
            self.journal.intend_act(&Intent {
                run: &world.run,
                variant: "",
                step: CLOCKS,
                action: CLOCK_STEP,
                undo: &captured.to_string(),
                expires: None,
                outside: false,
            })?;
        }
        Ok(())
    }

    /// Sets the clocks to what they were before the hosts stood still. What is left of that is tried again with the undo.
    async fn set_clocks_right(&self) -> Result<(), JournalError> {
        let (world, owner) = (self.world, owner("run"));
        let mut clocks = self.journal.open_acts(world.found.record.uuid)?;
        clocks.retain(|act| act.run == world.run && act.step == CLOCKS);
        let hand = Hand::of_the_lab(&owner);
        let undone = clocks
            .iter()
            .map(|act| undo_one(world, self.journal, act, hand));
        for undone in join_all(undone).await {
            if let Err(why) = undone {
                self.note(&format!("after the pause, {why}"));
            }
        }
        Ok(())
    }

    /// Takes a baseline where the gates hold that the topology has for `declared`; returns what was taken, or nothing where
    /// they do not hold so far. It lasts as long as what the run has done.
    pub(super) async fn declared(&self, declared: &str) -> Result<Option<String>, String> {
        let world = self.world;
        let gates = world.gates(declared).map_err(|error| error.to_string())?;
        let request = Request {
            name: format!("{}-{declared}", name(&world.run)),
            note: Some(format!("{declared}, in run {}", world.run)),
            run: Some(world.run.clone()),
            gates: gates.clone(),
            ..Request::default()
        };
        let set = set(world, self.journal, self.watch);
        let tested = self.choice.self_test.as_ref();
        match snapshot::create(set, &request, tested, &self.interrupt).await {
            Ok(created) => Ok(Some(format!(
                "{} hosts by {} in {} ms, which stood still for {} ms; {} held",
                created.manifest.hosts.len(),
                created.manifest.rung.as_str(),
                created.wall.as_millis(),
                created.set_pause.as_millis(),
                gates.join(", ")
            ))),
            Err(SnapshotError::Gates { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes what [`Self::declared`] has taken: the hosts that it is of are about to be others. Returns what is left of it.
    pub(super) async fn drop_declared(&self) -> Vec<String> {
        let world = self.world;
        let set = set(world, self.journal, self.watch);
        let taken = snapshot::of_runs(set.layout, world.found.record.uuid).unwrap_or_default();
        let own = taken
            .iter()
            .filter(|(taken, run)| *run == world.run && *taken != name(run));
        for (taken, _) in own {
            if let Err(error) = snapshot::remove(set, taken).await {
                self.note(&format!("baseline {taken} is still there: {error}"));
            }
        }
        self.unfinished()
    }

    /// What was begun with baselines and is not finished.
    pub(super) fn unfinished(&self) -> Vec<String> {
        match self.journal.unfinished(self.world.found.record.uuid) {
            Ok(unfinished) => unfinished
                .into_iter()
                .map(|one| format!("{} is not finished", one.verb))
                .collect(),
            Err(error) => vec![format!("what is not finished cannot be read: {error}")],
        }
    }

    /// Whether the lab is what the run's baseline says.
    pub(super) async fn as_before(&self, name: &str) -> Result<(), Vec<String>> {
        self.phase(RunPhase::Comparing);
        let set = set(self.world, self.journal, self.watch);
        match snapshot::differences(set, name).await {
            Ok(differences) if differences.is_empty() => Ok(()),
            Ok(differences) => Err(differences),
            Err(error) => Err(vec![format!("it cannot be compared with {name}: {error}")]),
        }
    }

    /// Restores the run's baseline, which closes what the undo has left; tells whether the lab is whole now.
    pub(super) async fn last_resort(
        &self,
        name: &str,
        left: &mut Vec<String>,
        begun: Duration,
    ) -> bool {
        self.phase(RunPhase::Restoring);
        let from = self.world.since(begun);
        let set = set(self.world, self.journal, self.watch);
        let (result, detail) = match restore(set, name).await {
            Ok(()) => match self.as_before(name).await {
                Ok(()) => (
                    StepOutcome::Undone,
                    "the lab is what it was before the run".to_owned(),
                ),
                Err(differences) => (StepOutcome::Left, differences.join("; ")),
            },
            Err(error) => (StepOutcome::Left, error.to_string()),
        };
        // What was done to this machine is in no baseline, and is left where its undo failed.
        let mut whole = result == StepOutcome::Undone;
        if whole {
            let open = self.journal.open_acts(self.world.found.record.uuid);
            let outside: Result<Vec<String>, _> = open.map(|open| {
                let own = open.into_iter().filter(|act| act.run == self.world.run);
                own.map(|act| format!("{} is not put back", act.step))
                    .collect()
            });
            *left = outside.unwrap_or_else(|error| vec![error.to_string()]);
            whole = left.is_empty();
        } else {
            left.extend(self.unfinished());
        }
        self.happens(RunEvent::StepEnded(StepResult {
            id: format!("restore {name}"),
            what: "the last resort".into(),
            result,
            detail,
            at_ms: from,
            took_ms: self.world.since(begun).saturating_sub(from),
        }));
        whole
    }

    /// Removes the run's baseline where it is not needed; returns its name where it is kept. Adds to `left` what of it is not removed.
    pub(super) async fn end_with(
        &self,
        reference: Option<String>,
        whole: bool,
        left: &mut Vec<String>,
    ) -> Option<String> {
        let name = reference?;
        if !whole {
            return Some(name);
        }
        let set = set(self.world, self.journal, self.watch);
        match snapshot::remove(set, &name).await {
            Ok(()) => None,
            Err(error) if snapshot::show(&set, &name).is_ok() => {
                self.note(&format!("baseline {name} is still there: {error}"));
                Some(name)
            }
            Err(error) => {
                self.note(&format!(
                    "baseline {name} is gone, and not all of its files are: {error}"
                ));
                left.extend(self.unfinished());
                None
            }
        }
    }
}

/// In which ways the lab is not what a baseline says, once what was put back has come up again.
async fn settled(set: Set<'_>, name: &str) -> Result<Vec<String>, SnapshotError> {
    let clock = &set.drivers.clock;
    let until = clock.elapsed() + SETTLE;
    loop {
        let differences = snapshot::differences(set, name).await?;
        if differences.is_empty() || clock.elapsed() >= until {
            return Ok(differences);
        }
        clock.sleep(LOOK).await;
    }
}

/// What came of the runs that were killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// What was done.
    pub done: Vec<String>,
    /// In which ways the lab is not what it was before them.
    pub differences: Vec<String>,
}

/// Ends the runs that were killed, and removes their baselines where the lab is what it was. Called with the lab's lock held,
/// when nothing of a run is open any more.
pub async fn clear(
    world: &World,
    journal: &Journal,
    watch: &dyn Watch,
) -> Result<Cleared, SnapshotError> {
    let set = set(world, journal, watch);
    let Cleared {
        mut done,
        differences: mut told,
    } = Cleared::default();
    for (taken, run) in snapshot::of_runs(set.layout, world.found.record.uuid)? {
        // One that a step took was of hosts that are others again.
        if taken != name(&run) {
            snapshot::remove(set, &taken).await?;
            done.push(format!("run {run}: baseline {taken} removed"));
            continue;
        }
        // A run that came to its end has kept it on purpose.
        if journal.run(&run)?.is_none_or(|row| row.ended_at.is_some()) {
            continue;
        }
        let differences = settled(set, &taken).await?;
        if differences.is_empty() {
            snapshot::remove(set, &taken).await?;
            done.push(format!(
                "run {run}: the lab is what it was before it; baseline {taken} removed"
            ));
        } else {
            told.extend(
                differences
                    .iter()
                    .map(|what| format!("run {run}: not as before it: {what}")),
            );
            told.push(format!(
                "run {run}: `twin restore {taken}` goes back; `twin snapshot {taken} --remove` lets it be so"
            ));
        }
    }
    journal.end_killed_runs(world.found.record.uuid)?;
    Ok(Cleared {
        done,
        differences: told,
    })
}
