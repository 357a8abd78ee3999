//! `twin snapshots`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::show::baselines::{List, list};
use crate::lab::{Found, Silent};
use crate::snapshot;

#[derive(Debug, Args)]
pub(crate) struct Flags {}

pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let (site, found) = (&context.site, context.site.lab().await?);
    let lab = found.record.uuid;
    let baselines = snapshot::list(site.layout(), lab)?;
    let expected = site.layout().expected_baselines(lab).into_iter();
    let missing = expected
        .map(|baseline| baseline.name.to_string())
        .filter(|name| baselines.iter().all(|listed| listed.name != *name))
        .collect();
    list(
        context.ui,
        List {
            lab: found.record.name.to_string(),
            now: site.drivers().clock.now(),
            total: snapshot::total(site.layout(), lab),
            needs: needing(context, &found).await,
            missing,
            baselines,
        },
    );
    DONE
}

/// The baselines that another QEMU has saved; none where the hosts cannot be asked, as a user who may only look.
async fn needing(context: &Context<'_>, found: &Found) -> Vec<(String, String)> {
    let Ok(Some(journal)) = context.site.journal_if_there() else {
        return Vec::new();
    };
    let set = context.site.set(found, &journal, &Silent);
    snapshot::need_another_emulator(&set)
        .await
        .unwrap_or_default()
}
