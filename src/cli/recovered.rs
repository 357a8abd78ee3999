//! What came of a recovery, in words and as a document.

use super::context::Context;
use super::failure::{Failure, code};
use super::ui::Ui;
use crate::lab::Found;
use crate::report::{RecoverDocument, RecoveredRun};
use crate::scenario::Recovered;
use crate::service::{self, Recovery};
use crate::snapshot::Finished;

/// Tells what was finished and what was left.
pub(crate) fn tell(ui: &Ui, finished: &Finished) {
    for done in &finished.done {
        ui.text(&format!("{done}\n"));
    }
    for left in &finished.left {
        ui.text(&format!("LEFT {left}\n"));
    }
}

fn tell_undone(ui: &Ui, run: &Recovered) {
    for (step, done) in &run.undone {
        ui.text(&format!("run {}: {step}: {done}\n", run.run));
    }
}

fn tell_runs(ui: &Ui, runs: &[Recovered]) {
    for run in runs {
        tell_undone(ui, run);
        for (step, why) in &run.left {
            ui.text(&format!("run {}: LEFT {step}: {why}\n", run.run));
        }
    }
}

/// What came of a run's acts, as the document has it.
fn document(run: &Recovered) -> RecoveredRun {
    let text = |pairs: &[(String, String)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(step, what)| format!("{step}: {what}"))
            .collect()
    };
    RecoveredRun {
        run: run.run.clone(),
        undone: text(&run.undone),
        left: text(&run.left),
    }
}

/// Tells what came of a recovery, and returns its exit code.
pub(crate) fn end(ui: &Ui, recovery: Recovery) -> Result<u8, Failure> {
    tell(ui, &recovery.finished);
    tell_runs(ui, &recovery.runs);
    let (clean, nothing) = (recovery.is_clean(), recovery.is_nothing());
    let differences = recovery.differences().to_vec();
    if let Some(error) = recovery.failed {
        return Err(error.into());
    }
    let compared = recovery.cleared.transpose()?;
    let compared = compared.map(|cleared| cleared.done).unwrap_or_default();
    for told in compared.iter().chain(&differences) {
        ui.text(&format!("{told}\n"));
    }
    if nothing {
        ui.text("nothing is open\n");
    }
    if !clean {
        ui.text("DIRTY: see to what keeps each from being put back, then `twin recover` again\n");
    }
    let as_before = differences.is_empty();
    let finished = recovery.finished.done.into_iter();
    ui.document(&RecoverDocument {
        schema: "twin/recover/v1".into(),
        runs: recovery.runs.iter().map(document).collect(),
        finished: finished.chain(compared).collect(),
        left: recovery.finished.left,
        differences,
    });
    Ok(match (clean, as_before) {
        (false, _) => code::DIRTY,
        // All is put back, and something is not what it was all the same.
        (true, false) => code::FAILED,
        (true, true) => code::DONE,
    })
}

/// At boot, once libvirtd runs. A lab that cannot be put right does not keep the others from it.
pub(crate) async fn boot(context: &Context<'_>) -> Result<u8, Failure> {
    let mut worst = code::DONE;
    for found in service::labs_at_boot(&context.site).await? {
        let outcome = boot_lab(context, &found).await;
        let code = outcome.unwrap_or_else(|failure| context.ui.failure(&failure));
        worst = worst.max(code);
    }
    Ok(worst)
}

async fn boot_lab(context: &Context<'_>, found: &Found) -> Result<u8, Failure> {
    let (site, ui, name) = (&context.site, context.ui, &found.record.name);
    let own = found.state();
    if let Some(state) = own.filter(|state| state != site.layout().state()) {
        let state = state.display();
        ui.remark(&format!(
            "lab {name} has its files in {state}: `twin --state-dir {state} recover --after-boot`"
        ));
        return Ok(code::DONE);
    }
    let watch = ui.watch();
    let Some(booted) = service::after_boot(site, found, watch.as_ref()).await? else {
        return Ok(code::DONE);
    };
    ui.text(&format!("lab {name}\n"));
    // What is left there is tried again with the rest.
    for run in &booted.outside {
        tell_undone(ui, run);
    }
    for host in &booted.started {
        ui.text(&format!("{host} is started\n"));
    }
    let mut failed = code::DONE;
    for (host, error) in booted.off {
        failed = failed.max(ui.failure(&error.into()));
        ui.remark(&format!(
            "{host} is off; `twin --lab {name} power on {host}` starts it"
        ));
    }
    Ok(end(ui, booted.recovery?)?.max(failed))
}
