//! Removing a baseline.

use super::consent::{ask, end_dry_run};
use super::context::Context;
use super::dirty::{refuse_disks_aside, refuse_unfinished};
use super::elapsed::milliseconds;
use super::failure::{DONE, Failure};
use super::flags::snapshot::Flags;
use crate::lab::Found;
use crate::report::ChangeDocument;
use crate::snapshot::{self, Set};

/// Removes one, or says what that would free.
pub(crate) async fn remove(
    context: &Context<'_>,
    found: &Found,
    set: Set<'_>,
    flags: &Flags,
) -> Result<u8, Failure> {
    const VERB: &str = "snapshot --remove";
    let (name, lab) = (flags.name.as_str(), found.record.name.as_str());
    let goes = match snapshot::show(&set, name) {
        Ok(manifest) => format!("baseline {name}, taken {}", manifest.taken()),
        Err(snapshot::SnapshotError::Damaged { .. }) => {
            format!("baseline {name}, which is damaged")
        }
        Err(error) => return Err(error.into()),
    };
    let goes = vec![goes];
    if flags.dry_run {
        return Ok(end_dry_run(context, lab, VERB, goes, Vec::new()));
    }
    refuse_unfinished(&set)?;
    refuse_disks_aside(&set)?;
    ask(context, flags.yes, &goes).await?;
    let started = context.site.drivers().clock.elapsed();
    snapshot::remove(set, name).await?;
    context.ui.text(&format!("baseline {name} is gone\n"));
    context.ui.document(&ChangeDocument {
        took_ms: milliseconds(context.site.since(started)),
        ..ChangeDocument::new(lab, VERB, vec![name.to_owned()])
    });
    DONE
}
