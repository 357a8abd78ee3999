//! A restore.

use std::time::Duration;

use crate::cli::elapsed::milliseconds;
use crate::cli::ui::Ui;
use crate::lab::Found;
use crate::report::{RestoreDocument, RestoredHostDocument};
use crate::snapshot::Restored;

/// Prints what came of a restore that was asked for `before` it began.
pub(crate) fn restored(ui: &Ui, found: &Found, name: &str, restored: Restored, before: Duration) {
    let (running, ready) = (before + restored.running, before + restored.ready);
    for host in &restored.hosts {
        if let Some(why) = &host.restarted {
            ui.remark(&format!("{} was started anew: {why}", host.name));
        }
    }
    let lag = restored.clock_lag_ms.map_or_else(String::new, |lag| {
        format!(
            ", clocks {} ms {}",
            lag.abs(),
            if lag < 0 { "ahead" } else { "behind" }
        )
    });
    ui.text(&format!(
        "{} is at {} again: all ran after {} ms, all answered after {} ms{lag}\n",
        found.record.name,
        name,
        running.as_millis(),
        ready.as_millis(),
    ));
    let hosts = restored.hosts.into_iter().map(|host| RestoredHostDocument {
        name: host.name,
        power: host.power,
        restarted: host.restarted,
        clock_lag_ms: host.clock_lag_ms,
    });
    ui.document(&RestoreDocument {
        schema: "twin/restore/v1".into(),
        name: name.to_owned(),
        rung: restored.manifest.rung.to_string(),
        running_ms: milliseconds(running),
        ready_ms: milliseconds(ready),
        clock_lag_ms: restored.clock_lag_ms,
        hosts: hosts.collect(),
    });
}
