//! Reverting and finishing all that is open in a lab.

use super::{ServiceError, Site};
use crate::lab::{Found, Watch};
use crate::scenario::{self, Cleared, Recovered};
use crate::snapshot::{self, Finished, SnapshotError};

/// What came of it.
#[derive(Debug)]
pub struct Recovery {
    /// Baselines and restores that were broken off.
    pub finished: Finished,
    /// Why those could not be looked at.
    pub failed: Option<SnapshotError>,
    /// Runs that had something open.
    pub runs: Vec<Recovered>,
    /// How the lab compares with what it was before runs that were killed, where all is reverted; or why that cannot be told.
    pub cleared: Option<Result<Cleared, ServiceError>>,
}

impl Recovery {
    /// Whether nothing is open any more.
    pub fn is_clean(&self) -> bool {
        self.failed.is_none()
            && self.finished.left.is_empty()
            && self.runs.iter().all(|run| run.left.is_empty())
    }

    /// In which ways the lab is not what it was.
    pub fn differences(&self) -> &[String] {
        match &self.cleared {
            Some(Ok(cleared)) => &cleared.differences,
            Some(Err(_)) | None => &[],
        }
    }

    /// Whether there was nothing to do.
    pub fn is_nothing(&self) -> bool {
        let nothing = |cleared: &Result<Cleared, _>| {
            let cleared = cleared.as_ref();
            cleared.is_ok_and(|cleared| cleared.done.is_empty() && cleared.differences.is_empty())
        };
        self.failed.is_none()
            && self.runs.is_empty()
            && self.finished == Finished::default()
            && self.cleared.as_ref().is_none_or(nothing)
    }
}

/// Reverts and finishes all that is open in a lab. Called with its lock held.
pub async fn recover(
    site: &Site,
    found: Found,
    watch: &dyn Watch,
) -> Result<Recovery, ServiceError> {
    let journal = site.journal()?;
    let world = site.world(found);
    let set = site.set(&world.found, &journal, watch);
    // What was done to the hosts is reverted in hosts that are whole; where that fails, what can be is reverted all the same.
    let (finished, failed) = match snapshot::recover(set).await {
        Ok(finished) => (finished, None),
        Err(error) => (Finished::default(), Some(error)),
    };
    let mut recovery = Recovery {
        finished,
        failed,
        runs: scenario::recover(&world, &journal).await?,
        cleared: None,
    };
    if recovery.is_clean() {
        let cleared = scenario::clear(&world, &journal, watch).await;
        recovery.cleared = Some(cleared.map_err(Into::into));
    }
    Ok(recovery)
}
