//! Running a scenario.

use super::{ServiceError, Site};
use crate::lab::LabError;
use crate::scenario::{self, Choice, RunResult, RunWatch, Scenario, World};
use crate::units::Seed;

/// The lab under test, locked where it is not only looked at.
pub async fn under_test(
    site: &Site,
    seed: Option<Seed>,
    look: bool,
) -> Result<World, ServiceError> {
    let (found, lock) = if look {
        (site.lab().await?, None)
    } else {
        let (found, lock) = site.locked_lab("scenario").await?;
        (found, Some(lock))
    };
    if found.hosts.is_empty() {
        return Err(ServiceError::Lab(LabError::NoLab {
            name: found.record.name.to_string(),
            known: Vec::new(),
        }));
    }
    let seed = seed.unwrap_or_else(|| Seed(uuid::Uuid::new_v4().as_u64_pair().0 >> 32));
    Ok(World {
        seed,
        run: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
        lock,
        ..site.world(found)
    })
}

/// Runs a scenario in a lab that is locked; turning `interrupt` true ends it.
pub async fn run(
    site: &Site,
    scenario: &Scenario,
    choice: &Choice,
    world: &World,
    watch: &dyn RunWatch,
    interrupt: tokio::sync::watch::Receiver<bool>,
) -> Result<RunResult, ServiceError> {
    let journal = site.journal()?;
    Ok(scenario::run(scenario, choice, world, &journal, watch, interrupt).await?)
}
