//! `twin destroy`.

use clap::Args;
use tracing::instrument;

use super::{Context, DONE, interruptible, milliseconds};
use crate::cli::failure::Failure;
use crate::lab;
use crate::report::ChangeDocument;

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let found = context.lab().await?;
    let watch = context.ui.watch();
    // A lab whose journal is lost, or cannot be read, is destroyed all the same.
    let journal = context.journal_if_there();
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
    for removed in &destroyed.removed {
        context.ui.text(&format!("removed {removed}\n"));
    }
    context.ui.text(&format!(
        "lab {} is gone, in {:.1} s\n",
        found.record.name,
        destroyed.took.as_secs_f64()
    ));
    context.ui.document(&ChangeDocument {
        schema: "twin/change/v1".into(),
        lab: found.record.name.to_string(),
        verb: "destroy".into(),
        changed: destroyed.removed,
        took_ms: milliseconds(destroyed.took),
    });
    DONE
}
