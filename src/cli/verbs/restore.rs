//! `twin restore`.

use tracing::instrument;

use crate::cli::consent::{ask, end_dry_run};
use crate::cli::context::Context;
use crate::cli::dirty::{recover_outside, refuse_unfinished_but_restores};
use crate::cli::elapsed::since_given;
use crate::cli::failure::{DONE, Failure};
use crate::cli::flags::restore::Flags;
use crate::cli::interrupt::Interrupt;
use crate::cli::loss::by_restore;
use crate::cli::show::restore as show;
use crate::snapshot::{self, Set};

async fn dry_run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let manifest = snapshot::shown(
        context.site.layout(),
        found.record.uuid,
        flags.name.as_str(),
    )?;
    let goes = by_restore(&found, &manifest);
    Ok(end_dry_run(
        context,
        found.record.name.as_str(),
        "restore",
        goes,
        Vec::new(),
    ))
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), name = %flags.name))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    if flags.consent.dry_run {
        return dry_run(context, flags).await;
    }
    let (found, lock) = context.site.locked_lab("restore").await?;
    let journal = context.site.journal()?;
    let watch = context.ui.watch();
    let set = Set {
        lock: Some(&lock),
        ..context.site.set(&found, &journal, watch.as_ref())
    };
    refuse_unfinished_but_restores(&set)?;
    let manifest = snapshot::show(&set, flags.name.as_str())?;
    ask(context, flags.consent.yes, &by_restore(&found, &manifest)).await?;
    recover_outside(context, &found, &journal).await?;
    let interrupt = Interrupt::listen(None);
    // People wait from the moment that they have asked.
    let before = since_given(context.site.drivers().clock.as_ref());
    let restored = snapshot::restore(
        set,
        flags.name.as_str(),
        flags.options(),
        interrupt.receiver(),
    )
    .await?;
    show::restored(context.ui, &found, flags.name.as_str(), restored, before);
    DONE
}
