//! What a verb removed.

use std::time::Duration;

use crate::cli::failure::code;
use crate::cli::ui::Ui;
use crate::report::ChangeDocument;

/// Prints what is gone.
pub(crate) fn told(ui: &Ui, document: &ChangeDocument) -> u8 {
    for removed in &document.changed {
        ui.text(&format!("removed {removed}\n"));
    }
    if !document.lab.is_empty() {
        let seconds = Duration::from_millis(document.took_ms).as_secs_f64();
        ui.text(&format!(
            "lab {} is gone, in {seconds:.1} s\n",
            document.lab
        ));
    }
    ui.document(document);
    code::DONE
}
