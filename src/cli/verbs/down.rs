//! `twin down`.

use std::time::Duration;

use clap::Args;
use tracing::instrument;

use crate::cli::consent::{Consent, ask, end_dry_run};
use crate::cli::context::{Context, this_command};
use crate::cli::dirty::{Does, say_dirty};
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{DONE, Failure};
use crate::cli::flags::up::duration;
use crate::cli::interrupt::interruptible;
use crate::cli::loss::by_down;
use crate::lab;
use crate::report::ChangeDocument;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Takes the power away instead of shutting down.
    #[arg(long)]
    pub(crate) force: bool,
    /// How long a host may take to shut down.
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    if flags.consent.dry_run {
        let found = context.site.lab().await?;
        let goes = by_down(&found, flags.force);
        return Ok(end_dry_run(
            context,
            found.record.name.as_str(),
            "down",
            goes,
            Vec::new(),
        ));
    }
    let (found, lock) = context.site.locked_lab("down").await?;
    say_dirty(context, &found, Does::Stops)?;
    ask(context, flags.consent.yes, &by_down(&found, flags.force)).await?;
    let drivers = context.site.drivers();
    let watch = context.ui.watch();
    let started = drivers.clock.elapsed();
    let work = async {
        let (timeout, force) = (flags.timeout, flags.force);
        Ok(lab::down(&found, &lock, drivers, watch.as_ref(), timeout, force).await?)
    };
    interruptible(work, || {
        Failure::interrupted(
            "interrupted; some hosts may be down",
            vec![format!("`{}` goes on", this_command())],
        )
    })
    .await?;
    let changed: Vec<String> = found
        .hosts
        .iter()
        .map(|host| host.name.to_string())
        .collect();
    context
        .ui
        .text(&format!("lab {} is down\n", found.record.name));
    context.ui.document(&ChangeDocument {
        took_ms: milliseconds(drivers.clock.elapsed().saturating_sub(started)),
        ..ChangeDocument::new(found.record.name.as_str(), "down", changed)
    });
    DONE
}
