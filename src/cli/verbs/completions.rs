//! `twin completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Context, DONE};
use crate::cli::failure::Failure;
use crate::cli::flags::Cli;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

pub(crate) fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    context.no_document("completions")?;
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "twin", &mut script);
    context.ui.bytes(&script);
    DONE
}
