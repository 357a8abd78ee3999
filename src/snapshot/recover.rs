//! Finishing what a dead twin began.

use tokio::sync::watch;
use uuid::Uuid;

use super::catalog::finish_removal;
use super::create::{abandon, half_made};
use super::set::{Plan, Set};
use super::{Options, SnapshotError};
use crate::journal::{Journal, UnfinishedOperation};

/// What the journal calls the operations on baselines.
pub(super) const SNAPSHOT: &str = "snapshot";
pub(super) const RESTORE: &str = "restore";
pub(super) const REMOVE: &str = "remove";

/// What was finished, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// What was done, a line each.
    pub done: Vec<String>,
    /// What is left, a line each.
    pub left: Vec<String>,
}

/// What is unfinished in a lab whose lock no process holds, in words.
pub fn unfinished(journal: &Journal, lab: Uuid) -> Result<Vec<String>, SnapshotError> {
    told(journal, lab, |_| true)
}

/// The same without restores: another restore takes their place.
pub fn unfinished_but_restores(journal: &Journal, lab: Uuid) -> Result<Vec<String>, SnapshotError> {
    told(journal, lab, |verb| verb != RESTORE)
}

fn told(
    journal: &Journal,
    lab: Uuid,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>, SnapshotError> {
    let operations = journal.unfinished(lab)?;
    Ok(operations
        .iter()
        .filter(|operation| wanted(&operation.verb))
        .map(|operation| match (operation.verb.as_str(), plan(operation)) {
            (RESTORE, Ok(plan)) => format!(
                "restore {0} was not finished: finishing it puts all hosts back to {0} as it was taken",
                plan.name
            ),
            (verb, Ok(plan)) => format!("{verb} {} was not finished", plan.name),
            (_, Err(why)) => why,
        })
        .collect())
}

/// Reads what it takes to finish an operation; where that cannot be read, tells so.
fn plan(operation: &UnfinishedOperation) -> Result<Plan, String> {
    serde_json::from_str(&operation.plan).map_err(|error| {
        format!(
            "{} was not finished, and what finishes it cannot be read, perhaps by this version of twin: {error}",
            operation.verb
        )
    })
}

/// Finishes one operation; returns what was done, or what is left of it.
async fn finish(set: Set<'_>, verb: &str, plan: &Plan) -> Result<Option<String>, Vec<String>> {
    let name = &plan.name;
    match verb {
        SNAPSHOT if committed(&set, plan) => Ok(Some(format!("baseline {name} is complete"))),
        SNAPSHOT => {
            let abandoned = abandon(&set, plan).await;
            if !abandoned.left.is_empty() {
                return Err(abandoned.left);
            }
            let hosts = abandoned.gone().map_or_else(
                || "the hosts run on".to_owned(),
                |(gone, cure)| format!("{gone}: {cure}"),
            );
            Ok(Some(format!(
                "baseline {name} was broken off: removed what there was of it; {hosts}"
            )))
        }
        REMOVE => match finish_removal(&set, plan).await {
            Ok(()) => Ok(Some(format!(
                "removed baseline {name}, which was broken off"
            ))),
            Err(error) => Err(vec![format!("removing baseline {name}: {error}")]),
        },
        RESTORE => {
            let (_never, interrupt) = watch::channel(false);
            match super::restore(set, name, Options::default(), &interrupt).await {
                Ok(_) => Ok(Some(format!("restored {name}, which was broken off"))),
                Err(error) => Err(vec![format!("restoring {name}: {error}")]),
            }
        }
        other => Err(vec![format!(
            "{other} {name} was broken off, and this twin does not know how it is finished: use the one that began it"
        )]),
    }
}

/// Finishes every baseline and restore that was broken off. Called with the lab's lock held. Doing it again does nothing.
pub async fn recover(set: Set<'_>) -> Result<Finished, SnapshotError> {
    let mut finished = Finished::default();
    for mended in set.mends().await {
        match mended {
            Ok(done) => finished.done.extend(done),
            Err(error) => finished.left.push(error.to_string()),
        }
    }
    if !finished.left.is_empty() {
        // What is to be finished would write to a disk whose tables are wrong.
        return Ok(finished);
    }
    let mut restored = false;
    // The last one comes first.
    for operation in set.journal.unfinished(set.lab())? {
        let plan = match plan(&operation) {
            Ok(plan) => plan,
            Err(why) => {
                finished.left.push(why);
                continue;
            }
        };
        let done = if operation.verb == RESTORE && restored {
            // The lab is at a baseline that was asked for later.
            Ok(None)
        } else {
            finish(set, &operation.verb, &plan).await
        };
        match done {
            Ok(done) => {
                restored |= operation.verb == RESTORE;
                finished.done.extend(done);
                let open = set.end(operation.id).err();
                let open =
                    open.map(|error| format!("the journal's entry of {}: {error}", plan.name));
                finished.left.extend(open);
            }
            Err(left) => finished.left.extend(left),
        }
    }
    finished.done.extend(sweep(&set).await?);
    Ok(finished)
}

fn committed(set: &Set<'_>, plan: &Plan) -> bool {
    super::show(set, &plan.name).is_ok_and(|manifest| manifest.id == plan.id)
}

/// Removes baselines that were never committed and that no journal knows of, with what they left in the disks.
async fn sweep(set: &Set<'_>) -> Result<Vec<String>, SnapshotError> {
    let mut swept = Vec::new();
    let entries = std::fs::read_dir(set.baselines());
    for entry in entries.into_iter().flatten().flatten() {
        let directory = entry.path();
        let Some(id) = half_made(&directory) else {
            continue;
        };
        let plan = Plan {
            name: entry.file_name().to_string_lossy().into_owned(),
            id,
            running: Vec::new(),
        };
        finish_removal(set, &plan).await?;
        swept.push(format!("removed half a baseline, {}", directory.display()));
    }
    Ok(swept)
}
