//! `twin recover`.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::guard::{other_died, to_work};
use crate::cli::recovered::{boot, tell};
use crate::cli::ui::no_document;
use crate::service;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Waits for the twin that started this one, and finishes what it began with baselines should it die.
    #[arg(long, hide = true)]
    pub(crate) stand_by: bool,
    /// Before libvirtd runs, at boot: puts back what needs no libvirt, and keeps hosts with open faults from being started.
    #[arg(long, hide = true, conflicts_with = "stand_by")]
    pub(crate) before_libvirt: bool,
    /// Once libvirtd runs, at boot: puts back what is open in all labs, and starts the hosts that were kept from it.
    #[arg(long, hide = true, conflicts_with_all = ["stand_by", "before_libvirt"])]
    pub(crate) after_boot: bool,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let site = &context.site;
    if flags.stand_by {
        // A terminal that is closed is not its own.
        let _hang_up = signal(SignalKind::hangup());
        let died = tokio::task::spawn_blocking(other_died);
        let died = async { died.await.unwrap_or_default() };
        service::watch_over(site, died, to_work).await?;
        return DONE;
    }
    if flags.before_libvirt {
        no_document(context.ui, "recover --before-libvirt")?;
        let finished = service::before_libvirt(site)?;
        tell(context.ui, &finished);
        return Ok(if finished.left.is_empty() {
            code::DONE
        } else {
            code::DIRTY
        });
    }
    if flags.after_boot {
        no_document(context.ui, "recover --after-boot")?;
        return boot(context).await;
    }
    let (found, _lock) = site.locked_lab_in_time("recover").await?;
    let watch = context.ui.watch();
    let recovery = service::recover(site, found, watch.as_ref()).await?;
    crate::cli::recovered::end(context.ui, recovery)
}
