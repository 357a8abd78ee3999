//! Undoing: last act first, going on past failures.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::fault;
use super::footprint::Footprint;
use super::world::World;
use crate::journal::{ActState, Journal, JournalError, OpenAct, Owner, UnfinishedOperation};
use crate::lab::{BOOT_DEADLINE, started};

/// How long an undo waits for another process that puts the act back, which may take a boot and what follows it, and its pause
/// between two looks.
const OTHER: Duration = BOOT_DEADLINE.saturating_add(Duration::from_secs(120));
const LOOK: Duration = Duration::from_millis(200);

/// How long an undo may take before the next one that does not follow it begins beside it: a boot, or a guest that does not
/// answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was put back, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The run.
    pub run: String,
    /// Steps put back, with what was done.
    pub undone: Vec<(String, String)>,
    /// Steps that could not be, with why.
    pub left: Vec<(String, String)>,
}

/// Who puts an act back, and how far.
#[derive(Clone, Copy)]
pub(super) struct Hand<'h> {
    /// The owner of its leases.
    owner: &'h Owner,
    reach: Reach,
    /// Whether it has the lab's lock: then it puts back what it cannot claim, too.
    has_lab: bool,
}

impl<'h> Hand<'h> {
    /// Of one who has the lab's lock.
    pub(super) const fn of_the_lab(owner: &'h Owner) -> Self {
        Self {
            owner,
            reach: Reach::Whole,
            has_lab: true,
        }
    }
}

/// How far an undo goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All of it.
    Whole,
    /// What was done to this machine.
    Machine,
}

/// Reverts one fault, unless another process is reverting it, which is waited for; returns what was done, or why it is unreverted.
pub(super) async fn undo_one(
    world: &World,
    journal: &Journal,
    act: &OpenAct,
    hand: Hand<'_>,
) -> Result<String, String> {
    let unwritten = match lease(world, journal, act, hand).await {
        Lease::Ours => None,
        Lease::Over(ended) => return ended,
        // What can be undone is undone; that it is open still is in the journal.
        Lease::Unwritten(error) if hand.has_lab => Some(error),
        Lease::Unwritten(error) => return Err(error.to_string()),
    };
    let key = (act.run.as_str(), act.sequence);
    // Who has not the lab does nothing to hosts of which a baseline is taken, or that are put back at one.
    let lab = world.found.record.uuid;
    let others = |unfinished: Vec<UnfinishedOperation>| !unfinished.is_empty();
    if !hand.has_lab && journal.unfinished(lab).is_ok_and(others) {
        let why = "a baseline is being taken or restored".to_owned();
        let _ = journal.mark_act(key, hand.owner, ActState::Left, &why);
        return Err(why);
    }
    let undone = match hand.reach {
        Reach::Whole => fault::revert(world, &act.action, &act.undo).await,
        Reach::Machine => fault::revert_outside(world, &act.action, &act.undo).await,
    };
    let ended = undone.map_err(|error| {
        let hosts = footprint(act).hosts();
        let cure = error.cure(hosts.first().map_or("HOST", String::as_str));
        cure.map_or_else(|| error.to_string(), |cure| format!("{error}; {cure}"))
    });
    let (state, note) = match &ended {
        Ok(done) => (ActState::Undone, done),
        Err(why) => (ActState::Left, why),
    };
    let written = unwritten.map_or_else(|| journal.mark_act(key, hand.owner, state, note), Err);
    match (ended, written) {
        (Ok(done), Err(error)) => Err(format!("{done}; but that is not written down: {error}")),
        // It was taken over: what came of that is what counts.
        (Ok(done), Ok(false)) => match journal.act_state(key.0, key.1) {
            Ok(Some(ActState::Left)) => Err("another process could not put it back".into()),
            _ => Ok(done),
        },
        (ended, _) => ended,
    }
}

/// What came of trying to lease an act.
enum Lease {
    Ours,
    /// Another process has ended it.
    Over(Result<String, String>),
    Unwritten(JournalError),
}

async fn lease(world: &World, journal: &Journal, act: &OpenAct, hand: Hand<'_>) -> Lease {
    let clock = &world.drivers.clock;
    let until = clock.elapsed() + OTHER;
    let mut taken_over = false;
    let over = |why: &str| Lease::Over(Err(why.to_owned()));
    loop {
        let expires = clock.boot().later(OTHER);
        match journal.lease_act(&act.run, act.sequence, hand.owner, &expires) {
            Ok(true) => return Lease::Ours,
            Ok(false) => {}
            Err(error) => return Lease::Unwritten(error),
        }
        // Another process has it, also where no more can be read or written.
        let state = journal.act_state(&act.run, act.sequence).unwrap_or(None);
        match state {
            Some(ActState::Undone) => {
                return Lease::Over(Ok("put back by another process".into()));
            }
            // What was in its way may be gone: it is tried once more.
            Some(ActState::Left) if !taken_over => taken_over = true,
            Some(ActState::Left) => return over("another process could not put it back"),
            _ if clock.elapsed() >= until => return over("another process is putting it back"),
            _ => clock.sleep(LOOK).await,
        }
        // It may have died over it, or have given up.
        let _ = journal.release_leases(&act.run, &lives);
    }
}

/// Undoes acts, last first; one that takes its time does not hold up those that do not follow it.
pub(super) async fn in_order<'a, U: Future>(
    world: &World,
    open: &'a [OpenAct],
    undo: impl Fn(&'a OpenAct) -> U,
    mut ended: impl FnMut(&'a OpenAct, U::Output),
) {
    let undo = async |act: &'a OpenAct| (act, undo(act).await);
    let mut waiting: Vec<&OpenAct> = open.iter().collect();
    let mut under_way: Vec<&OpenAct> = Vec::new();
    let mut running = FuturesUnordered::new();
    loop {
        let free = waiting.iter().enumerate().position(|(index, act)| {
            let before = waiting.iter().take(index).chain(&under_way);
            !follows(act, before.copied())
        });
        if let Some(free) = free {
            let act = waiting.remove(free);
            under_way.push(act);
            running.push(undo(act));
        }
        // The last one that nothing can begin beside is waited for however long it takes.
        let more = !waiting.is_empty() && free.is_some();
        tokio::select! {
            biased;
            done = running.next() => {
                let Some((act, done)) = done else { break };
                under_way.retain(|other| !same(act, other));
                ended(act, done);
            }
            () = world.drivers.clock.sleep(PATIENCE), if more => {}
        }
    }
}

fn same(one: &OpenAct, other: &OpenAct) -> bool {
    (one.sequence, one.run.as_str()) == (other.sequence, other.run.as_str())
}

/// What was captured before an act.
fn captured(act: &OpenAct) -> serde_json::Value {
    serde_json::from_str(&act.undo).unwrap_or_default()
}

fn footprint(act: &OpenAct) -> Footprint {
    fault::footprint(&act.action, &captured(act), act.outside)
}

/// Whether an act is put back only when others, all later ones, have been: those on the same host, or on none, in their order.
/// What is set outside a host in no time does not wait for its boot.
fn follows<'a>(act: &OpenAct, mut later: impl Iterator<Item = &'a OpenAct>) -> bool {
    let own = footprint(act);
    later.any(|other| {
        let other = footprint(other);
        other.hosts() == own.hosts() && (!own.is_apart() || other.stands_on(&own))
    })
}

/// Whether an act waits for a later one on the same host, which is still there: it was done on disks that are aside, or the
/// later one captured what it had changed. It is undone after that.
pub(super) fn waits(act: &OpenAct, open: &[OpenAct]) -> bool {
    let own = footprint(act);
    let later = |other: &&OpenAct| other.run == act.run && other.sequence > act.sequence;
    let mut later = open.iter().filter(later);
    !own.hosts().is_empty() && later.any(|other| footprint(other).stands_on(&own))
}

/// This process, as it leases acts.
pub(super) fn owner(role: &str) -> Owner {
    let process = std::process::id();
    Owner {
        role: role.to_owned(),
        process,
        started: started(process).unwrap_or_default(),
    }
}

/// Whether an owner is a process that lives.
fn lives(owner: &Owner) -> bool {
    started(owner.process) == Some(owner.started)
}

/// The same, where this process is known to be at nothing else: it would wait for itself.
fn another_lives(owner: &Owner) -> bool {
    owner.process != std::process::id() && lives(owner)
}

/// Puts back what runs of the lab have left. Called with the lab's lock held; one who stands by may be at an act all the same.
pub async fn recover(world: &World, journal: &Journal) -> Result<Vec<Recovered>, JournalError> {
    let open = journal.open_acts(world.found.record.uuid)?;
    put_back(Reach::Whole, world, journal, &open).await
}

/// Puts back what runs have left on this machine, outside the hosts: what a restore of the hosts does not. Called with the
/// lab's lock held.
pub async fn recover_outside(
    world: &World,
    journal: &Journal,
) -> Result<Vec<Recovered>, JournalError> {
    let mut open = journal.open_acts(world.found.record.uuid)?;
    open.retain(|act| act.outside);
    put_back(Reach::Machine, world, journal, &open).await
}

async fn put_back(
    reach: Reach,
    world: &World,
    journal: &Journal,
    open: &[OpenAct],
) -> Result<Vec<Recovered>, JournalError> {
    let owner = owner("recover");
    let hand = Hand {
        owner: &owner,
        reach,
        has_lab: true,
    };
    let mut runs: Vec<Recovered> = Vec::new();
    for act in open {
        if runs.last().is_none_or(|last| last.run != act.run) {
            // Where it cannot be written, it cannot be claimed either, and is put back all the same.
            let _ = journal.release_leases(&act.run, &another_lives);
            runs.push(Recovered {
                run: act.run.clone(),
                ..Recovered::default()
            });
        }
    }
    let undo = |act| undo_one(world, journal, act, hand);
    let take = |act: &OpenAct, ended| {
        let run = runs.iter_mut().find(|run| run.run == act.run);
        if let Some(run) = run {
            run.take(act, ended);
        }
    };
    in_order(world, open, undo, take).await;
    Ok(runs)
}

/// Puts back acts whose time is over and whose run does not do it: it hangs, or is at something else. Without the lab's lock,
/// which the run has; the claims keep the two apart. Those in `later` are left for another time.
pub async fn lift_overdue(
    world: &World,
    journal: &Journal,
    grace: Duration,
    later: &dyn Fn(&OpenAct) -> bool,
) -> Result<Recovered, JournalError> {
    let owner = owner("stand-by");
    let hand = Hand {
        owner: &owner,
        reach: Reach::Whole,
        has_lab: false,
    };
    let mut recovered = Recovered::default();
    let lab = world.found.record.uuid;
    if !journal.unfinished(lab)?.is_empty() {
        return Ok(recovered);
    }
    let open = journal.open_acts(lab)?;
    let mut overdue = journal.expired_acts(Some(lab), grace)?;
    overdue.retain(|act| !waits(act, &open) && !later(act));
    let undo = |act| undo_one(world, journal, act, hand);
    let take = |act: &OpenAct, ended| {
        recovered.run.clone_from(&act.run);
        recovered.take(act, ended);
    };
    in_order(world, &overdue, undo, take).await;
    Ok(recovered)
}

impl Recovered {
    fn take(&mut self, act: &OpenAct, ended: Result<String, String>) {
        let step = act.step.clone();
        match ended {
            Ok(done) => self.undone.push((step, done)),
            Err(why) => self.left.push((step, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::tests::captured;
    use super::*;

    fn act(sequence: i64, action: &str, host: &str, outside: bool) -> OpenAct {
        OpenAct {
            run: "r".into(),
            sequence,
            step: format!("s{sequence}"),
            action: action.into(),
            undo: captured(action, &serde_json::json!({"host": host})).to_string(),
            expires: None,
            why_left: None,
            outside,
        }
    }

    #[test]
    fn an_owner_lives_as_long_as_its_process() {
        let own = owner("run");
        assert!(lives(&own) && !another_lives(&own), "{own}");
        let parent = std::os::unix::process::parent_id();
        let of = |process, started| Owner {
            role: "stand-by".into(),
            process,
            started,
        };
        let since = started(parent).expect("it lives");
        assert!(lives(&of(parent, since)) && another_lives(&of(parent, since)));
        assert!(
            !lives(&of(parent, since + 1)),
            "another process of this number"
        );
        assert!(!lives(&of(4_194_304, 1)));
    }

    #[test]
    fn what_was_done_on_disks_that_are_aside_waits_for_them() {
        let open = [
            act(4, "file-change", "b", false),
            act(3, "host-release", "b", true),
            act(2, "file-change", "a", false),
            act(1, "file-change", "b", false),
            act(0, "host-autostart", "b", true),
        ];
        let aside: Vec<bool> = open.iter().map(|act| waits(act, &open)).collect();
        assert_eq!(aside, [false, false, false, true, false]);
    }

    #[test]
    fn faults_on_the_same_thing_wait_for_the_later_one() {
        let with = |sequence: i64, action: &str, key: &str, value: &str| OpenAct {
            undo: captured(action, &serde_json::json!({"host": "a", key: value})).to_string(),
            ..act(sequence, action, "a", false)
        };
        let open = [
            with(7, "file-change", "path", "/etc/hosts"),
            with(6, "service-stop", "service", "apache2"),
            act(5, "compute-reserve", "b", false),
            act(4, "compute-reserve", "a", false),
            act(3, "compute-reserve", "a", false),
            with(2, "service-stop", "service", "mysqld"),
            with(1, "file-change", "path", "/etc/resolv.conf"),
            with(0, "file-change", "path", "/etc/hosts"),
        ];
        let waiting: Vec<bool> = open.iter().map(|act| waits(act, &open)).collect();
        let [last, first] = [[false, false, false, false], [true, true, false, true]];
        assert_eq!(waiting, [last, first].concat());
    }

    #[test]
    fn what_a_later_act_has_captured_waits_for_it() {
        let open = [
            act(10, "policy-route", "c", false),
            act(9, "nic-bandwidth", "c", true),
            act(8, "nic-bandwidth", "c", true),
            act(7, "nic-attach", "c", true),
            act(6, "nic-detach", "b", true),
            act(5, "host-power", "a", false),
            act(4, "nic-link", "b", true),
            act(3, "net-emulate", "b", false),
            act(2, "net-emulate", "a", false),
            act(1, "clock-step", "a", false),
            act(0, "clock-step", "b", false),
        ];
        let waiting: Vec<bool> = open.iter().map(|act| waits(act, &open)).collect();
        let of_c = [false, false, true, true];
        let of_others = [false, false, true, true, false, true, true];
        assert_eq!(waiting, [&of_c[..], &of_others].concat());
    }
}
