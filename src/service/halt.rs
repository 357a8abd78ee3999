//! Ending all runs, and refusing new ones.

use std::time::Duration;

use super::{ServiceError, Site};
use crate::lab::{Lock, LockError};

/// A run that is halted has reverted what needs no boot within this.
const ENDS: Duration = Duration::from_secs(300);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Runs are refused; what is left is to wait for those under way.
#[derive(Debug)]
#[must_use]
pub struct Halted(());

/// Refuses new runs from now on, and has those under way end. A run sees the halt in the state directory that its lab's marks
/// name.
pub async fn halt(site: &Site) -> Result<Halted, ServiceError> {
    let since = format!(
        "{} by process {}",
        site.drivers().clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        std::process::id()
    );
    for layout in &site.all_layouts().await {
        layout
            .halt(&since)
            .map_err(|source| ServiceError::Halt { source })?;
    }
    Ok(Halted(()))
}

/// Lets runs begin again; whether they were refused.
pub async fn lift_halt(site: &Site) -> Result<bool, ServiceError> {
    let mut was = false;
    for layout in &site.all_layouts().await {
        was |= layout
            .lift_halt()
            .map_err(|source| ServiceError::Halt { source })?;
    }
    Ok(was)
}

impl Halted {
    /// Waits until no run has a lab's lock any more; tells which did.
    pub async fn ended(self, site: &Site) -> Result<Vec<String>, ServiceError> {
        let clock = site.drivers().clock.as_ref();
        let mut ended = Vec::new();
        for found in site.labs().await? {
            let record = &found.record;
            let until = clock.elapsed() + ENDS;
            let mut said: Option<String> = None;
            loop {
                match Lock::lab(record.uuid, record.name.as_str(), "halt", clock) {
                    Err(LockError::Held { what, holder }) if holder.contains("`twin scenario`") => {
                        if clock.elapsed() >= until {
                            return Err(ServiceError::GoesOn { holder, what });
                        }
                        said = Some(format!("{holder} in lab {}", record.name));
                        clock.sleep(LOOK).await;
                    }
                    // Free, or held by a verb that is no run.
                    _ => break,
                }
            }
            ended.extend(said);
        }
        Ok(ended)
    }
}
