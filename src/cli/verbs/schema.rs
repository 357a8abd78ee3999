//! `twin schema`.

use clap::Args;

use crate::cli::failure::{DONE, Failure};
use crate::cli::show::schema::{Name, schema};
use crate::cli::ui::Ui;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The document, or kind of file.
    #[arg(value_enum)]
    pub(crate) name: Name,
}

pub(crate) fn run(ui: &Ui, flags: &Flags) -> Result<u8, Failure> {
    ui.bytes(format!("{}\n", schema(flags.name)).as_bytes());
    DONE
}
