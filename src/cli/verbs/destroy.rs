//! `twin destroy`.

use std::time::Duration;

use clap::Args;
use tracing::instrument;

use super::{Context, interruptible, milliseconds};
use crate::cli::failure::{Failure, code};
use crate::lab;
use crate::report::ChangeDocument;

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    context.layout.need_pool()?;
    let swept = lab::sweep(context.drivers(), &context.layout).await?;
    let found = match context.lab().await {
        // What a killed `destroy` has left is gone now, and that was all.
        Err(_) if !swept.is_empty() => return Ok(told(context, "", swept, Duration::ZERO)),
        found => found?,
    };
    let watch = context.ui.watch();
    // A lab whose journal is lost, or cannot be read, is destroyed all the same.
    let journal = context.journal_if_there().ok().flatten();
    let work = async {
        Ok(lab::destroy(
            &found,
            context.drivers(),
            &context.layout,
            journal.as_ref(),
            watch.as_ref(),
        )
        .await?)
    };
    let again = format!("`twin --lab {} destroy` goes on", found.record.name);
    let destroyed = interruptible(work, || {
        Failure::interrupted("interrupted; something of the lab is left", vec![again])
    })
    .await?;
    let name = found.record.name.to_string();
    let removed = swept.into_iter().chain(destroyed.removed).collect();
    Ok(told(context, &name, removed, destroyed.took))
}

fn told(context: &Context<'_>, lab: &str, removed: Vec<String>, took: Duration) -> u8 {
    for removed in &removed {
        context.ui.text(&format!("removed {removed}\n"));
    }
    if !lab.is_empty() {
        let seconds = took.as_secs_f64();
        context
            .ui
            .text(&format!("lab {lab} is gone, in {seconds:.1} s\n"));
    }
    context.ui.document(&ChangeDocument {
        schema: "twin/change/v1".into(),
        lab: lab.to_owned(),
        verb: "destroy".into(),
        changed: removed,
        notes: Vec::new(),
        took_ms: milliseconds(took),
    });
    code::DONE
}
