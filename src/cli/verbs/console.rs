//! `twin console`.

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::terminal::join;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The host.
    pub(crate) host: String,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    crate::cli::ui::no_document(context.ui, "console")?;
    let found = context.site.lab().await?;
    let target = found.host(&flags.host)?.target(found.record.uuid);
    let path = context
        .site
        .drivers()
        .hypervisor
        .domain
        .console(target)
        .await?;
    context
        .ui
        .remark(&format!("console of {}; Ctrl-] leaves it", flags.host));
    let joined = tokio::task::spawn_blocking(move || join(&path)).await;
    let wrong = |why: String| {
        Failure::machine(
            format!("the console: {why}"),
            vec!["run as root; `twin status` shows whether the host runs".into()],
        )
    };
    joined
        .map_err(|error| wrong(error.to_string()))?
        .map_err(|error| wrong(error.to_string()))?;
    context.ui.remark("\nleft the console");
    DONE
}
