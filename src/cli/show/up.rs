//! What `twin up` does, or would do.

use crate::cli::elapsed::milliseconds;
use crate::cli::failure::code;
use crate::cli::ui::Ui;
use crate::lab::{Prepared, Upped};
use crate::report::{StepDocument, UpDocument};

/// What would be done; returns the exit code.
pub(crate) fn dry_run(ui: &Ui, prepared: &Prepared) -> u8 {
    let plan = &prepared.plan;
    let record = &prepared.placed.record;
    ui.text(&format!(
        "lab {} at scale {}, {}; nothing is done\n{plan}\n",
        record.name,
        record.scale,
        record.accelerator.as_str()
    ));
    let steps = plan.steps.iter().map(|step| StepDocument {
        id: step.id.clone(),
        what: step.to_string(),
        took_ms: 0,
    });
    ui.document(&UpDocument {
        schema: "twin/up/v1".into(),
        lab: record.name.to_string(),
        changed: plan.changes(),
        dry_run: true,
        steps: steps.collect(),
        ready_ms: 0,
        notes: plan.notes.clone(),
    });
    if plan.blocked.is_empty() {
        code::DONE
    } else {
        code::FAILED
    }
}

/// What was done.
pub(crate) fn report(ui: &Ui, prepared: &Prepared, upped: &Upped, notes: &[String]) {
    let record = &prepared.placed.record;
    let changed = upped.steps.iter().filter(|step| step.changed).count();
    let seconds = upped.ready.as_secs_f64();
    for note in notes {
        ui.remark(&format!("note: {note}"));
    }
    let (hosts, all) = (
        prepared.desired.chosen().count(),
        prepared.placed.hosts.len(),
    );
    let hosts = if hosts == all {
        hosts.to_string()
    } else {
        format!("{hosts} of {all}")
    };
    ui.text(&format!(
        "lab {} is up: {hosts} hosts at scale {}, {}; {changed} change{} in {seconds:.1} s\n",
        record.name,
        record.scale,
        record.accelerator.as_str(),
        if changed == 1 { "" } else { "s" }
    ));
    let steps = upped.steps.iter().map(|step| StepDocument {
        id: step.id.clone(),
        what: step.what.clone(),
        took_ms: milliseconds(step.took),
    });
    ui.document(&UpDocument {
        schema: "twin/up/v1".into(),
        lab: record.name.to_string(),
        changed,
        dry_run: false,
        steps: steps.collect(),
        ready_ms: milliseconds(upped.ready),
        notes: notes.to_vec(),
    });
}
