//! `twin report`.

use clap::Args;

use super::{Context, DONE};
use crate::cli::failure::Failure;
use crate::report::{ScenarioDocument, scenario_text};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The run; the last one when not given.
    pub(crate) run: Option<String>,
}

pub(crate) fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let none = || {
        Failure::usage(
            "there is no run to report",
            vec!["`twin runs` lists them".into()],
        )
    };
    let journal = context.journal_if_there().ok_or_else(none)?;
    let row = match &flags.run {
        Some(id) => journal.run(id)?,
        None => journal.runs(None)?.into_iter().next(),
    };
    let row = row.ok_or_else(none)?;
    let Some(document) = row
        .document
        .as_deref()
        .and_then(|text| serde_json::from_str::<ScenarioDocument>(text).ok())
    else {
        return Err(Failure::usage(
            format!("run {} has not come to its end", row.id),
            vec!["`twin recover` puts back what it left".into()],
        ));
    };
    context.ui.text(&scenario_text(&document));
    context.ui.document(&document);
    DONE
}
