//! The list of scenarios.

use crate::cli::ui::Ui;
use crate::report::{ScenarioEntry, ScenariosDocument};

/// Prints it.
pub(crate) fn list(ui: &Ui, entries: Vec<ScenarioEntry>) {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.name.clone(),
                entry.incident.clone().unwrap_or_default(),
                entry.variants.join(" "),
                entry.title.clone(),
            ]
        })
        .collect();
    ui.table(&["SCENARIO", "INCIDENT", "VARIANTS", "TITLE"], &rows);
    ui.document(&ScenariosDocument {
        schema: "twin/scenarios/v1".into(),
        scenarios: entries,
    });
}
