//! `twin release`.

use clap::Args;
use tracing::instrument;

use crate::cli::consent::{Consent, ask, end_dry_run};
use crate::cli::context::{Context, this_command};
use crate::cli::dirty::{Does, lost_with_disks, say_dirty};
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{DONE, Failure};
use crate::cli::interrupt::interruptible;
use crate::cli::loss::by_release;
use crate::lab;
use crate::report::ChangeDocument;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The host; all hosts when not given.
    pub(crate) host: Option<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let drivers = context.site.drivers();
    if flags.consent.dry_run {
        let found = context.site.lab().await?;
        let goes = by_release(context, &found, flags.host.as_deref())?;
        let hosts = found.chosen(flags.host.as_deref())?;
        lab::releasable(&found, &hosts, drivers).await?;
        return Ok(end_dry_run(
            context,
            found.record.name.as_str(),
            "release",
            goes,
            Vec::new(),
        ));
    }
    let (found, lock) = context.site.locked_lab("release").await?;
    let hosts = found.chosen(flags.host.as_deref())?;
    lab::releasable(&found, &hosts, drivers).await?;
    let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    say_dirty(context, &found, Does::Wipes)?;
    let notes = lost_with_disks(context, found.record.uuid, &names)?;
    ask(
        context,
        flags.consent.yes,
        &by_release(context, &found, flags.host.as_deref())?,
    )
    .await?;
    let watch = context.ui.watch();
    let started = drivers.clock.elapsed();
    let work = async {
        let host = flags.host.as_deref();
        Ok(lab::release(&found, &lock, host, drivers, watch.as_ref()).await?)
    };
    let changed = interruptible(work, || {
        Failure::interrupted(
            "interrupted; some hosts may be wiped",
            vec![format!("`{}` goes on", this_command())],
        )
    })
    .await?;
    context.ui.text(&format!(
        "released, blank and off: {}\n",
        changed.join(", ")
    ));
    context.ui.document(&ChangeDocument {
        notes,
        took_ms: milliseconds(drivers.clock.elapsed().saturating_sub(started)),
        ..ChangeDocument::new(found.record.name.as_str(), "release", changed)
    });
    DONE
}
