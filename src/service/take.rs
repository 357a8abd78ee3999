//! What comes before a baseline, and verifying one.

use super::{ServiceError, Site};
use crate::lab::Found;
use crate::snapshot::{self, SelfTest, Set, SnapshotError, self_test};

/// What a trial on this machine has shown of memory in files, for a baseline of this lab. It may boot a throw-away VM, which an
/// interrupt ends as it ends any program that has changed nothing.
pub async fn tried(
    site: &Site,
    found: &Found,
    any_runs: bool,
) -> Result<Option<SelfTest>, ServiceError> {
    let accelerator = found.record.accelerator;
    Ok(self_test(site.drivers(), site.layout(), accelerator, any_runs).await?)
}

/// Reads all of a baseline; returns what is not as it was.
pub async fn verify(set: &Set<'_>, name: &str) -> Result<Vec<String>, ServiceError> {
    match snapshot::show(set, name) {
        Ok(manifest) => Ok(snapshot::verify(set, &manifest).await?),
        Err(SnapshotError::Damaged { findings, .. }) => Ok(findings),
        Err(error) => Err(error.into()),
    }
}
