//! Finishing what a dead twin began.

use tokio::sync::watch;
use uuid::Uuid;

use super::create::{abandon, half_made};
use super::set::{Plan, Set, remove_directory};
use super::{Clocks, SnapshotError};
use crate::journal::{Journal, UnfinishedOperation};

/// What was finished, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// What was done, a line each.
    pub done: Vec<String>,
    /// What is left, a line each.
    pub left: Vec<String>,
}

/// What is unfinished in a lab whose lock nobody holds, in words.
pub fn unfinished(journal: &Journal, lab: Uuid) -> Result<Vec<String>, SnapshotError> {
    let operations = journal.unfinished(lab)?;
    Ok(operations
        .iter()
        .filter_map(|operation| Some((operation, plan(operation)?)))
        .map(|(operation, plan)| format!("{} {} was broken off", operation.verb, plan.name))
        .collect())
}

fn plan(operation: &UnfinishedOperation) -> Option<Plan> {
    serde_json::from_str(&operation.plan).ok()
}

/// Finishes every baseline and restore that was broken off. Called with the lab's lock held. Doing it again does nothing.
pub async fn recover(set: Set<'_>) -> Result<Finished, SnapshotError> {
    let mut finished = Finished::default();
    let mut restored = false;
    // The last one comes first.
    for operation in set.journal.unfinished(set.lab())? {
        let Some(plan) = plan(&operation) else {
            continue;
        };
        let name = &plan.name;
        match operation.verb.as_str() {
            "snapshot" if committed(&set, &plan) => {
                set.journal.end(operation.id, "done")?;
                finished.done.push(format!("baseline {name} is complete"));
            }
            "snapshot" => {
                let abandoned = abandon(&set, &plan).await;
                if abandoned.left.is_empty() {
                    set.journal.end(operation.id, "abandoned")?;
                    let gone = abandoned.gone();
                    let hosts = gone.map_or_else(
                        || "the hosts run on".to_owned(),
                        |(gone, cure)| format!("{gone}: {cure}"),
                    );
                    finished.done.push(format!(
                        "baseline {name} was broken off: removed what there was of it; {hosts}"
                    ));
                }
                finished.left.extend(abandoned.left);
            }
            // The lab is at a baseline that was asked for later.
            "restore" if restored => set.journal.end(operation.id, "superseded")?,
            "restore" => {
                let (_never, interrupt) = watch::channel(false);
                match super::restore(set, name, Clocks::Keep, &interrupt).await {
                    Ok(_) => {
                        set.journal.end(operation.id, "done")?;
                        restored = true;
                        finished
                            .done
                            .push(format!("restored {name}, which was broken off"));
                    }
                    Err(error) => finished.left.push(format!("restoring {name}: {error}")),
                }
            }
            _ => {}
        }
    }
    finished.done.extend(sweep(&set)?);
    Ok(finished)
}

fn committed(set: &Set<'_>, plan: &Plan) -> bool {
    super::show(set, &plan.name).is_ok_and(|manifest| manifest.id == plan.id)
}

/// Removes directories of baselines that were never committed and that no journal knows of.
fn sweep(set: &Set<'_>) -> Result<Vec<String>, SnapshotError> {
    let mut swept = Vec::new();
    for entry in std::fs::read_dir(set.baselines())
        .into_iter()
        .flatten()
        .flatten()
    {
        if half_made(&entry.path()) {
            remove_directory(&entry.path())?;
            swept.push(format!(
                "removed half a baseline, {}",
                entry.path().display()
            ));
        }
    }
    Ok(swept)
}
