//! `twin recover`.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::instrument;

use super::{Context, DONE};
use crate::cli::failure::{Failure, code};
use crate::cli::guard::{other_died, to_work};
use crate::lab::Silent;
use crate::report::{RecoverDocument, RecoveredRun};
use crate::scenario::{self, Recovered};
use crate::snapshot;

/// How often the one who stands by looks for faults that are overdue.
const LOOK: Duration = Duration::from_secs(1);

/// What a living twin has to put a fault back itself, once its time is over.
const GRACE: Duration = Duration::from_secs(2);

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
    let world = context.world(found);
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
    if !clean {
        let mend = "DIRTY: see to what keeps each from being put back, then `twin recover` again\n";
        context.ui.text(mend);
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

/// What the one who stands by does: while the other twin lives, it puts back what should be and is not; should that die, all.
async fn stand_by(context: &Context<'_>) -> Result<u8, Failure> {
    // A terminal that is closed is not its own.
    let _hang_up = signal(SignalKind::hangup());
    let mut waiting = tokio::task::spawn_blocking(other_died);
    loop {
        tokio::select! {
            died = &mut waiting => {
                if !died.is_ok_and(|died| died) {
                    return DONE;
                }
                break;
            }
            () = tokio::time::sleep(LOOK) => lift_overdue(context).await,
        }
    }
    let (found, _lock) = context.locked_lab_in_time("recover").await?;
    let journal = context.journal()?;
    let world = context.world(found);
    let finished = snapshot::recover(context.set(&world.found, &journal, &Silent)).await?;
    for done in &finished.done {
        tracing::info!(done, "finished for a twin that died");
    }
    for left in &finished.left {
        tracing::warn!(left, "not finished for a twin that died");
    }
    let mut whole = finished.left.is_empty();
    for run in scenario::recover(&world, &journal).await? {
        let run_id = &run.run;
        for (step, done) in &run.undone {
            tracing::info!(run_id, step, done, "put back for a twin that died");
        }
        for (step, why) in &run.left {
            tracing::warn!(run_id, step, why, "not put back for a twin that died");
        }
        whole &= run.left.is_empty();
    }
    if whole {
        for done in scenario::clear(&world, &journal, &Silent).await? {
            tracing::info!(done, "compared for a twin that died");
        }
    }
    DONE
}

/// Puts back faults whose time is over, where the twin that made them hangs.
async fn lift_overdue(context: &Context<'_>) {
    let Some(journal) = context.journal_if_there() else {
        return;
    };
    // It is nearly always nothing, and then the hypervisor is not asked.
    let over = journal.overdue_acts(None, context.drivers().clock.now());
    if !over.is_ok_and(|acts| !acts.is_empty()) {
        return;
    }
    to_work();
    let Ok(found) = context.lab().await else {
        return;
    };
    let world = context.world(found);
    match scenario::lift_overdue(&world, &journal, GRACE).await {
        Ok(lifted) if lifted == Recovered::default() => {}
        Ok(lifted) => tracing::warn!(?lifted, "put back for a twin that hangs"),
        Err(error) => tracing::error!(%error, "nothing can be put back for a twin that hangs"),
    }
}
