//! What programs in several hosts wrote.

use base64::Engine;

use crate::cli::ui::Ui;
use crate::report::{ExecDocument, ExecHost};
use crate::service::Ran;

fn text_of(bytes: Vec<u8>) -> (String, String) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, "utf-8".into()),
        Err(error) => (
            base64::engine::general_purpose::STANDARD.encode(error.as_bytes()),
            "base64".into(),
        ),
    }
}

fn document(ran: Ran) -> ExecHost {
    let ((stdout, stdout_encoding), (stderr, stderr_encoding)) =
        (text_of(ran.stdout), text_of(ran.stderr));
    ExecHost {
        name: ran.host,
        exit: ran.exit,
        stdout,
        stdout_encoding,
        stderr,
        stderr_encoding,
        error: ran.error,
    }
}

/// Prints each host's output whole, with its name before each line.
pub(crate) fn gathered(ui: &Ui, results: Vec<Ran>) {
    let hosts: Vec<ExecHost> = results.into_iter().map(document).collect();
    for host in &hosts {
        let lines = |text: &str| -> String {
            let lines = text.lines();
            lines
                .map(|line| format!("{}: {line}\n", host.name))
                .collect()
        };
        ui.text(&lines(&host.stdout));
        ui.remark(lines(&host.stderr).trim_end());
        if let Some(error) = &host.error {
            ui.remark(&format!("{}: {error}", host.name));
        }
    }
    ui.document(&ExecDocument {
        schema: "twin/exec/v1".into(),
        hosts,
    });
}
