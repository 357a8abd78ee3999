//! `twin destroy`.

use clap::Args;
use tracing::instrument;

use crate::cli::consent::{Consent, ask, end_dry_run};
use crate::cli::context::Context;
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::Failure;
use crate::cli::interrupt::interruptible;
use crate::cli::loss::by_destroy;
use crate::cli::show::change::told;
use crate::lab::{self, Found};
use crate::report::ChangeDocument;
use crate::service;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let site = &context.site;
    site.here().await?;
    site.layout().need_pool()?;
    if flags.consent.dry_run {
        return dry_run(context).await;
    }
    let swept = lab::sweep(site.layout(), site.drivers().clock.as_ref())?;
    let wanted = context.global.lab.as_deref();
    let is_wanted = |found: &Found| wanted.is_none_or(|name| found.record.name.as_str() == name);
    if !swept.is_empty() && !site.labs().await?.iter().any(is_wanted) {
        // What a killed `destroy` has left is gone now, and that was all.
        return Ok(told(context.ui, &ChangeDocument::new("", "destroy", swept)));
    }
    let (found, lock) = site.locked_lab("destroy").await?;
    let (goes, _) = by_destroy(context, &found).await?;
    ask(context, flags.consent.yes, &goes).await?;
    let watch = context.ui.watch();
    // A lab whose journal is lost, or cannot be read, is destroyed all the same.
    let journal = site.existing_journal().ok().flatten();
    let (journal, watch) = (journal.as_ref(), watch.as_ref());
    let work = async { Ok(service::destroy(site, (&found, &lock), journal, watch).await?) };
    let name = found.record.name.as_str();
    let again = context.command(name, &["destroy".into()]);
    let again = format!("`{again}` goes on");
    let destroyed = interruptible(work, || {
        Failure::interrupted("interrupted; something of the lab is left", vec![again])
    })
    .await?;
    let left = destroyed.left.iter();
    let removed = swept.into_iter().chain(destroyed.removed).collect();
    let strays = found.strays.iter().map(ToString::to_string);
    let document = ChangeDocument {
        left: left.map(ToString::to_string).chain(strays).collect(),
        took_ms: milliseconds(destroyed.took),
        ..ChangeDocument::new(name, "destroy", removed)
    };
    for left in &destroyed.left {
        context.ui.remark(&format!("left {left}"));
    }
    Ok(told(context.ui, &document))
}

async fn dry_run(context: &Context<'_>) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let (goes, left) = by_destroy(context, &found).await?;
    let lab = found.record.name.as_str();
    Ok(end_dry_run(context, lab, "destroy", goes, left))
}
