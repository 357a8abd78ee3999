//! `twin recover`.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::instrument;

use super::{Context, DONE};
use crate::cli::failure::{Failure, code};
use crate::cli::guard::other_died;
use crate::lab::Silent;
use crate::report::{RecoverDocument, RecoveredRun};
use crate::scenario::{self, World};
use crate::snapshot;
use crate::units::Seed;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Waits for the twin that started this one, and finishes what it began with baselines should it die.
    #[arg(long, hide = true)]
    pub(crate) stand_by: bool,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    if flags.stand_by {
        return stand_by(context).await;
    }
    let (found, _lock) = context.locked_lab_in_time("recover").await?;
    let journal = context.journal()?;
    let world = World {
        drivers: context.drivers().clone(),
        layout: context.layout.clone(),
        found,
        seed: Seed(0),
        run: String::new(),
    };
    let watch = context.ui.watch();
    let set = context.set(&world.found, &journal, watch.as_ref());
    // What was done to the hosts is put back in hosts that are whole.
    let finished = snapshot::recover(set).await?;
    let recovered = scenario::recover(&world, &journal).await?;
    let mut clean = finished.left.is_empty();
    let mut finished = finished;
    if clean && recovered.iter().all(|run| run.left.is_empty()) {
        finished
            .done
            .extend(scenario::clear(&world, &journal, watch.as_ref()).await?);
    }
    for done in &finished.done {
        context.ui.text(&format!("{done}\n"));
    }
    for left in &finished.left {
        context.ui.text(&format!("LEFT {left}\n"));
    }
    for run in &recovered {
        for (step, done) in &run.undone {
            context
                .ui
                .text(&format!("run {}: {step}: {done}\n", run.run));
        }
        for (step, why) in &run.left {
            clean = false;
            context
                .ui
                .text(&format!("run {}: LEFT {step}: {why}\n", run.run));
        }
    }
    if recovered.is_empty() && finished == snapshot::Finished::default() {
        context.ui.text("nothing is open\n");
    }
    let text = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(step, what)| format!("{step}: {what}"))
            .collect()
    };
    let runs = recovered.iter().map(|run| RecoveredRun {
        run: run.run.clone(),
        undone: text(&run.undone),
        left: text(&run.left),
    });
    context.ui.document(&RecoverDocument {
        schema: "twin/recover/v1".into(),
        runs: runs.collect(),
        finished: finished.done,
        left: finished.left,
    });
    Ok(if clean { code::DONE } else { code::DIRTY })
}

/// What the one who stands by does.
async fn stand_by(context: &Context<'_>) -> Result<u8, Failure> {
    // A terminal that is closed is not its own.
    let _hang_up = signal(SignalKind::hangup());
    let died = tokio::task::spawn_blocking(other_died).await;
    if !died.is_ok_and(|died| died) {
        return DONE;
    }
    let (found, _lock) = context.locked_lab_in_time("recover").await?;
    let journal = context.journal()?;
    let set = context.set(&found, &journal, &Silent);
    let finished = snapshot::recover(set).await?;
    for done in &finished.done {
        tracing::info!(done, "finished for a twin that died");
    }
    for left in &finished.left {
        tracing::warn!(left, "not finished for a twin that died");
    }
    DONE
}
