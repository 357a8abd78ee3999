//! `twin release`.

use clap::Args;
use tracing::instrument;

use super::{Context, DONE, interruptible, lost_with_disks, milliseconds};
use crate::cli::failure::Failure;
use crate::lab;
use crate::report::ChangeDocument;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The host; all hosts when not given.
    pub(crate) host: Option<String>,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let found = context.lab().await?;
    let drivers = context.drivers();
    let watch = context.ui.watch();
    let hosts: Vec<&str> = match &flags.host {
        Some(host) => vec![host],
        None => found.hosts.iter().map(|host| host.name.as_str()).collect(),
    };
    let notes = lost_with_disks(context, found.record.uuid, &hosts)?;
    for note in &notes {
        context.ui.remark(&format!("note: {note}"));
    }
    let started = drivers.clock.elapsed();
    let work =
        async { Ok(lab::release(&found, flags.host.as_deref(), drivers, watch.as_ref()).await?) };
    let changed = interruptible(work, || {
        Failure::interrupted(
            "interrupted; some hosts may be wiped",
            vec!["`twin release` goes on".into()],
        )
    })
    .await?;
    context.ui.text(&format!(
        "released, blank and off: {}\n",
        changed.join(", ")
    ));
    let took_ms = milliseconds(drivers.clock.elapsed().saturating_sub(started));
    context.ui.document(&ChangeDocument {
        schema: "twin/change/v1".into(),
        lab: found.record.name.to_string(),
        verb: "release".into(),
        changed,
        notes,
        took_ms,
    });
    DONE
}
