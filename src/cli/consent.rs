//! A yes before something goes that does not come back.

use std::io::{BufRead, IsTerminal};

use clap::Args;

use super::context::{Context, this_command};
use super::failure::{Failure, code};
use crate::report::ChangeDocument;

/// The flag, and the variable, that answer yes beforehand.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Yes {
    /// Answers yes to what is asked; needed where there is no terminal to ask on.
    #[arg(long, env = "TWIN_YES", value_parser = super::global::boolish, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, hide_possible_values = true)]
    pub(crate) yes: bool,
}

/// The flags of a verb that removes or overwrites.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Consent {
    /// Says what would go, and changes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

/// Asks before `goes` goes. Where nothing does, nothing is asked. Without a terminal, and without a yes given beforehand,
/// nothing is changed, and the command that would do it is printed.
pub(crate) async fn ask(context: &Context<'_>, yes: Yes, goes: &[String]) -> Result<(), Failure> {
    if goes.is_empty() {
        return Ok(());
    }
    let ui = context.ui;
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !ui.json;
    if yes.yes || terminal {
        ui.remark("this goes:");
        for one in goes {
            ui.remark(&format!("  {one}"));
        }
    }
    if yes.yes {
        return Ok(());
    }
    if !terminal {
        return Err(Failure::failed(
            format!(
                "nothing was changed: this needs a yes, and there is no terminal to ask on\n{}",
                goes.join("\n")
            ),
            vec![format!("`{} --yes` does it", this_command())],
        ));
    }
    ui.error_bytes(b"Go on? [y/N] ");
    // On a thread of its own, so that Ctrl-C is seen meanwhile. The end of input is no yes.
    let read = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map(|_| answer).unwrap_or_default()
    });
    let answer = read.await.unwrap_or_default();
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::failed("nothing was changed", Vec::new()))
}

/// Ends a dry run of `verb`: prints what would go and what would stay.
pub(crate) fn end_dry_run(
    context: &Context<'_>,
    lab: &str,
    verb: &str,
    goes: Vec<String>,
    stays: Vec<String>,
) -> u8 {
    let ui = context.ui;
    if goes.is_empty() {
        ui.text("nothing would go\n");
    }
    for one in &goes {
        ui.text(&format!("would go: {one}\n"));
    }
    for one in &stays {
        ui.text(&format!("would stay: {one}\n"));
    }
    ui.document(&ChangeDocument {
        left: stays,
        dry_run: true,
        ..ChangeDocument::new(lab, verb, goes)
    });
    code::DONE
}
