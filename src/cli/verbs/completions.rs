//! `twin completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::cli::failure::{DONE, Failure};
use crate::cli::ui::{Ui, no_document};

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

pub(crate) fn run(ui: &Ui, flags: &Flags, mut command: Command) -> Result<u8, Failure> {
    no_document(ui, "completions")?;
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut command, "twin", &mut script);
    ui.bytes(&script);
    DONE
}
