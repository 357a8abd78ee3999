//! Removing a lab.

use super::{ServiceError, Site};
use crate::journal::Journal;
use crate::lab::{self, Destroyed, Found, Lock, Watch};

/// Removes all that carries a lab's mark.
pub async fn destroy(
    site: &Site,
    (found, lock): (&Found, &Lock),
    journal: Option<&Journal>,
    watch: &dyn Watch,
) -> Result<Destroyed, ServiceError> {
    let (drivers, layout) = (site.drivers(), site.layout());
    Ok(lab::destroy(found, lock, drivers, layout, journal, watch).await?)
}
