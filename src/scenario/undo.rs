//! Undoing: last act first, going on past failures.

use std::time::Duration;

use super::action;
use super::world::World;
use crate::journal::{ActState, Journal, JournalError, OpenAct};

/// How long is waited for somebody else who puts an act back, and between two looks.
const OTHER: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

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

/// Puts one act back, unless somebody else is at it, who is waited for; returns what was done, or why it is left.
pub(super) async fn undo_one(
    world: &World,
    journal: &Journal,
    act: &OpenAct,
    claimer: &str,
) -> Result<Result<String, String>, JournalError> {
    if !journal.claim_act(&act.run, act.sequence, claimer)? {
        let until = world.drivers.clock.elapsed() + OTHER;
        loop {
            match journal.act_state(&act.run, act.sequence)? {
                Some(ActState::Undone) => return Ok(Ok("put back by somebody else".into())),
                Some(ActState::Left) => {
                    return Ok(Err("somebody else could not put it back".into()));
                }
                _ if world.drivers.clock.elapsed() >= until => {
                    return Ok(Err("somebody else is putting it back".into()));
                }
                _ => world.drivers.clock.sleep(LOOK).await,
            }
        }
    }
    Ok(match action::undo(world, &act.action, &act.undo).await {
        Ok(done) => {
            journal.mark_act(&act.run, act.sequence, ActState::Undone, Some(&done))?;
            Ok(done)
        }
        Err(error) => {
            let why = error.to_string();
            journal.mark_act(&act.run, act.sequence, ActState::Left, Some(&why))?;
            Err(why)
        }
    })
}

/// Whether an act inside a host is on disks that are aside: a later step has released the host, and what is undone now would
/// be undone on the blank ones. It is undone after that step.
pub(super) fn is_aside(act: &OpenAct, open: &[OpenAct]) -> bool {
    let host = |act: &OpenAct| -> Option<String> {
        let captured: serde_json::Value = serde_json::from_str(&act.undo).ok()?;
        captured["host"].as_str().map(str::to_owned)
    };
    let later = |other: &&OpenAct| {
        other.run == act.run
            && other.sequence > act.sequence
            && action::puts_disks_aside(&other.action)
    };
    let mut releases = open.iter().filter(later);
    !act.outside && releases.any(|other| host(other).is_some() && host(other) == host(act))
}

/// Puts back what runs of the lab have left. Called with the lab's lock held, so whoever made a claim is dead.
pub async fn recover(world: &World, journal: &Journal) -> Result<Vec<Recovered>, JournalError> {
    let open = journal.open_acts(world.found.record.uuid)?;
    put_back(world, journal, &open).await
}

/// Puts back what runs have left on this machine, outside the hosts: what a restore of the hosts does not. Called with the
/// lab's lock held.
pub async fn recover_outside(
    world: &World,
    journal: &Journal,
) -> Result<Vec<Recovered>, JournalError> {
    let mut open = journal.open_acts(world.found.record.uuid)?;
    open.retain(|act| act.outside);
    put_back(world, journal, &open).await
}

async fn put_back(
    world: &World,
    journal: &Journal,
    open: &[OpenAct],
) -> Result<Vec<Recovered>, JournalError> {
    let claimer = format!("recover {}", std::process::id());
    let mut runs: Vec<Recovered> = Vec::new();
    for act in open {
        if runs.last().is_none_or(|last| last.run != act.run) {
            journal.release_claims(&act.run)?;
            runs.push(Recovered {
                run: act.run.clone(),
                ..Recovered::default()
            });
        }
        let ended = undo_one(world, journal, act, &claimer).await?;
        if let Some(run) = runs.last_mut() {
            match ended {
                Ok(done) => run.undone.push((act.step.clone(), done)),
                Err(why) => run.left.push((act.step.clone(), why)),
            }
        }
    }
    Ok(runs)
}

/// Puts back acts whose time is over and whose run does not do it: it hangs. Without the lab's lock, which the run has; the
/// claims keep the two apart.
pub async fn lift_overdue(
    world: &World,
    journal: &Journal,
    grace: Duration,
) -> Result<Recovered, JournalError> {
    let now = world.drivers.clock.now();
    let over = now.checked_sub(grace).unwrap_or(now);
    let claimer = format!("stand-by {}", std::process::id());
    let mut recovered = Recovered::default();
    let lab = world.found.record.uuid;
    let open = journal.open_acts(lab)?;
    let mut overdue = journal.overdue_acts(Some(lab), over)?;
    overdue.retain(|act| !is_aside(act, &open));
    for act in overdue {
        recovered.run.clone_from(&act.run);
        match undo_one(world, journal, &act, &claimer).await? {
            Ok(done) => recovered.undone.push((act.step, done)),
            Err(why) => recovered.left.push((act.step, why)),
        }
    }
    Ok(recovered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_on_disks_that_are_aside_waits_for_them() {
        let act = |sequence: i64, action: &str, host: &str, outside: bool| OpenAct {
            run: "r".into(),
            sequence,
            step: format!("s{sequence}"),
            action: action.into(),
            undo: serde_json::json!({"host": host}).to_string(),
            lift_at: None,
            outside,
        };
        let open = [
            act(4, "file-change", "b", false),
            act(3, "host-release", "b", true),
            act(2, "file-change", "a", false),
            act(1, "file-change", "b", false),
            act(0, "host-autostart", "b", true),
        ];
        let aside: Vec<bool> = open.iter().map(|act| is_aside(act, &open)).collect();
        assert_eq!(aside, [false, false, false, true, false]);
    }
}
