//! The flags of `twin report`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The run; when not given, the last one of the lab that `--lab` names, or of all labs.
    pub(crate) run: Option<String>,
    /// As one HTML file that needs nothing else.
    #[arg(long, conflicts_with = "junit")]
    pub(crate) html: bool,
    /// As `JUnit` XML.
    #[arg(long)]
    pub(crate) junit: bool,
    /// As its events, a line of JSON each.
    #[arg(long, conflicts_with_all = ["html", "junit", "open"])]
    pub(crate) events: bool,
    /// Writes to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Writes the HTML file below the state directory and opens it.
    #[arg(long, conflicts_with_all = ["junit", "output"])]
    pub(crate) open: bool,
}
