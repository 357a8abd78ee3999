//! Undoing: last act first, going on past failures.

use super::action;
use super::world::World;
use crate::journal::{ActState, Journal, JournalError, OpenAct};

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

/// Undoes one run's open acts, last one first.
pub(super) async fn undo_all(
    world: &World,
    journal: &Journal,
    acts: &[OpenAct],
    claimer: &str,
) -> Result<Recovered, JournalError> {
    let mut recovered = Recovered::default();
    for act in acts {
        recovered.run.clone_from(&act.run);
        if !journal.claim_act(&act.run, act.sequence, claimer)? {
            recovered
                .left
                .push((act.step.clone(), "somebody else is putting it back".into()));
            continue;
        }
        match action::undo(world, &act.action, &act.undo).await {
            Ok(done) => {
                journal.mark_act(&act.run, act.sequence, ActState::Undone, Some(&done))?;
                recovered.undone.push((act.step.clone(), done));
            }
            Err(error) => {
                let why = error.to_string();
                journal.mark_act(&act.run, act.sequence, ActState::Left, Some(&why))?;
                recovered.left.push((act.step.clone(), why));
            }
        }
    }
    Ok(recovered)
}

/// Puts back what runs of the lab have left. Called with the lab's lock held, so whoever made a claim is dead.
pub async fn recover(world: &World, journal: &Journal) -> Result<Vec<Recovered>, JournalError> {
    let open = journal.open_acts(world.found.record.uuid)?;
    let mut runs: Vec<Vec<OpenAct>> = Vec::new();
    for act in open {
        match runs
            .iter_mut()
            .find(|acts| acts.first().is_some_and(|first| first.run == act.run))
        {
            Some(acts) => acts.push(act),
            None => runs.push(vec![act]),
        }
    }
    let mut recovered = Vec::new();
    for acts in runs {
        let run = acts.first().map(|act| act.run.clone()).unwrap_or_default();
        journal.release_claims(&run)?;
        recovered.push(
            undo_all(
                world,
                journal,
                &acts,
                &format!("recover {}", std::process::id()),
            )
            .await?,
        );
    }
    Ok(recovered)
}
