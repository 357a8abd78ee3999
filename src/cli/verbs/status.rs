//! `twin status`.

use std::time::Duration;

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::interrupt::interruptible;
use crate::cli::show::status::{document, text};
use crate::cli::ui::no_document;
use crate::lab;
use crate::snapshot;

/// How often a watch looks.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Goes on showing it until interrupted.
    #[arg(long, short)]
    pub(crate) watch: bool,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    if !flags.watch {
        return show(context).await;
    }
    no_document(context.ui, "status --watch")?;
    let watch = async {
        loop {
            context.ui.clear();
            show(context).await?;
            context.site.drivers().clock.sleep(LOOK).await;
        }
    };
    interruptible(watch, || {
        Failure::interrupted("no longer watching", Vec::new())
    })
    .await
}

async fn show(context: &Context<'_>) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let status = lab::status(&found, context.site.drivers(), context.site.layout()).await?;
    let dirty = match context.site.journal_if_there()? {
        Some(journal) => {
            let uuid = status.record.uuid;
            // What a twin is at now is unfinished, and not left over.
            !journal.open_acts(uuid)?.is_empty()
                || (!snapshot::unfinished(&journal, uuid)?.is_empty()
                    && context.site.lock(&found, "status").is_ok())
        }
        None => false,
    };
    let baselines = snapshot::names(context.site.layout(), status.record.uuid)?;
    text(context.ui, &status, &baselines, dirty);
    context.ui.document(&document(&status, baselines, dirty));
    if dirty { Ok(code::DIRTY) } else { DONE }
}
