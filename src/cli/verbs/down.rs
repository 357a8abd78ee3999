//! `twin down`.

use std::time::Duration;

use clap::Args;
use tracing::instrument;

use super::up::duration;
use super::{Context, DONE, interruptible, milliseconds};
use crate::cli::failure::Failure;
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
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let found = context.lab().await?;
    let drivers = context.drivers();
    let watch = context.ui.watch();
    let started = drivers.clock.elapsed();
    let work =
        async { Ok(lab::down(&found, drivers, watch.as_ref(), flags.timeout, flags.force).await?) };
    interruptible(work, || {
        Failure::interrupted(
            "interrupted; some hosts may be down",
            vec!["`twin down` goes on".into()],
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
    let took_ms = milliseconds(drivers.clock.elapsed().saturating_sub(started));
    context.ui.document(&ChangeDocument {
        schema: "twin/change/v1".into(),
        lab: found.record.name.to_string(),
        verb: "down".into(),
        changed,
        notes: Vec::new(),
        took_ms,
    });
    DONE
}
