//! A baseline that was taken, or verified.

use std::time::Duration;

use super::baseline::{host_document, size};
use crate::cli::elapsed::milliseconds;
use crate::cli::ui::Ui;
use crate::report::{SnapshotDocument, VerifyDocument};
use crate::snapshot::Created;

/// Prints what came of one that was taken in `wall`.
pub(crate) fn created(ui: &Ui, created: &Created, wall: Duration) {
    let manifest = &created.manifest;
    for reason in &manifest.reasons {
        ui.remark(&format!("{}: {reason}", manifest.rung));
    }
    ui.text(&format!(
        "baseline {} of {}: {} hosts by {}, stood still {} ms, {:.1} s in all, {} written\n",
        manifest.name,
        manifest.lab_name,
        manifest.hosts.len(),
        manifest.rung,
        created.set_pause.as_millis(),
        wall.as_secs_f64(),
        size(created.bytes_written),
    ));
    ui.document(&SnapshotDocument {
        schema: "twin/snapshot/v1".into(),
        name: manifest.name.clone(),
        rung: manifest.rung.to_string(),
        reasons: manifest.reasons.clone(),
        set_pause_ms: milliseconds(created.set_pause),
        wall_ms: milliseconds(wall),
        bytes_written: created.bytes_written,
        hosts: manifest.hosts.iter().map(host_document).collect(),
    });
}

/// Prints what is not as it was in a baseline that was read in `took`.
pub(crate) fn verified(ui: &Ui, name: &str, findings: Vec<String>, took: Duration) {
    for finding in &findings {
        ui.text(&format!("DAMAGED  {finding}\n"));
    }
    if findings.is_empty() {
        ui.text(&format!(
            "baseline {name} is what it was, read in {:.1} s\n",
            took.as_secs_f64()
        ));
    }
    ui.document(&VerifyDocument {
        schema: "twin/verify/v1".into(),
        name: name.to_owned(),
        findings,
        took_ms: milliseconds(took),
    });
}
