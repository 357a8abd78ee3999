//! `twin destroy`.

use std::time::Duration;

use clap::Args;
use tracing::instrument;

use crate::cli::consent::{Consent, ask, end_dry_run};
use crate::cli::context::Context;
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{Failure, code};
use crate::cli::interrupt::interruptible;
use crate::report::ChangeDocument;
use crate::{lab, snapshot};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    context.site.here().await?;
    context.site.layout().need_pool()?;
    if flags.consent.dry_run {
        return dry_run(context).await;
    }
    let swept = lab::sweep(context.site.layout(), context.site.drivers().clock.as_ref())?;
    let wanted = context.global.lab.as_deref();
    let is_wanted =
        |found: &lab::Found| wanted.is_none_or(|name| found.record.name.as_str() == name);
    if !swept.is_empty() && !context.site.labs().await?.iter().any(is_wanted) {
        // What a killed `destroy` has left is gone now, and that was all.
        return Ok(told(context, &ChangeDocument::new("", "destroy", swept)));
    }
    let (found, lock) = context.site.locked_lab("destroy").await?;
    let (goes, _) = doomed(context, &found).await?;
    ask(context, flags.consent.yes, &goes).await?;
    let watch = context.ui.watch();
    // A lab whose journal is lost, or cannot be read, is destroyed all the same.
    let journal = context.site.existing_journal().ok().flatten();
    let work = async {
        Ok(lab::destroy(
            &found,
            &lock,
            context.site.drivers(),
            context.site.layout(),
            journal.as_ref(),
            watch.as_ref(),
        )
        .await?)
    };
    let again = format!(
        "`{}` goes on",
        context.command(found.record.name.as_str(), &["destroy".into()])
    );
    let destroyed = interruptible(work, || {
        Failure::interrupted("interrupted; something of the lab is left", vec![again])
    })
    .await?;
    let removed = swept.into_iter().chain(destroyed.removed).collect();
    let strays = found.strays.iter().map(ToString::to_string);
    let document = ChangeDocument {
        left: destroyed
            .left
            .iter()
            .map(ToString::to_string)
            .chain(strays)
            .collect(),
        took_ms: milliseconds(destroyed.took),
        ..ChangeDocument::new(found.record.name.as_str(), "destroy", removed)
    };
    for left in &destroyed.left {
        context.ui.remark(&format!("left {left}"));
    }
    Ok(told(context, &document))
}

/// What goes with the lab, and what stays of its directory.
async fn doomed(
    context: &Context<'_>,
    found: &lab::Found,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let (mut goes, left) =
        lab::doomed(found, context.site.drivers(), context.site.layout()).await?;
    // Baselines that cannot be listed go all the same.
    let baselines = snapshot::names(context.site.layout(), found.record.uuid).unwrap_or_default();
    goes.extend(baselines.iter().map(|name| format!("baseline {name}")));
    Ok((goes, left.iter().map(ToString::to_string).collect()))
}

async fn dry_run(context: &Context<'_>) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let (goes, left) = doomed(context, &found).await?;
    Ok(end_dry_run(
        context,
        found.record.name.as_str(),
        "destroy",
        goes,
        left,
    ))
}

fn told(context: &Context<'_>, document: &ChangeDocument) -> u8 {
    for removed in &document.changed {
        context.ui.text(&format!("removed {removed}\n"));
    }
    if !document.lab.is_empty() {
        let seconds = Duration::from_millis(document.took_ms).as_secs_f64();
        context.ui.text(&format!(
            "lab {} is gone, in {seconds:.1} s\n",
            document.lab
        ));
    }
    context.ui.document(document);
    code::DONE
}
