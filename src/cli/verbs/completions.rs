//! `twin completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{DONE, no_document};
use crate::cli::failure::Failure;
use crate::cli::flags::Cli;
use crate::cli::ui::Ui;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

pub(crate) fn run(ui: &Ui, flags: &Flags) -> Result<u8, Failure> {
    no_document(ui, "completions")?;
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "twin", &mut script);
    ui.bytes(&script);
    DONE
}
