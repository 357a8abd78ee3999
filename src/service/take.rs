//! Taking a baseline, and verifying one.

use super::{ServiceError, Site};
use crate::hypervisor::Power;
use crate::snapshot::{self, Created, Request, Set, SnapshotError};

/// Takes a baseline, by what this machine has been shown to do.
pub async fn take(
    site: &Site,
    set: Set<'_>,
    request: &Request,
    interrupt: &tokio::sync::watch::Receiver<bool>,
) -> Result<Created, ServiceError> {
    let mut hosts = set.found.hosts.iter();
    let any_runs = hosts.any(|host| host.domain.power == Power::Running);
    let accelerator = set.found.record.accelerator;
    let tested = snapshot::self_test(site.drivers(), site.layout(), accelerator, any_runs).await?;
    Ok(snapshot::create(set, request, tested.as_ref(), interrupt).await?)
}

/// Reads all of a baseline; returns what is not as it was.
pub async fn verify(set: &Set<'_>, name: &str) -> Result<Vec<String>, ServiceError> {
    match snapshot::show(set, name) {
        Ok(manifest) => Ok(snapshot::verify(set, &manifest).await?),
        Err(SnapshotError::Damaged { findings, .. }) => Ok(findings),
        Err(error) => Err(error.into()),
    }
}
