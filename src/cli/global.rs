//! Flags that every verb takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The hypervisor where none is named.
pub(crate) const DEFAULT_CONNECT: &str = "qemu:///system";

/// The state directory where none is named.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/twin";

/// Reads a yes or no; a variable that is set to nothing says no.
pub(crate) fn boolish(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "" | "0" | "n" | "no" | "f" | "false" | "off" => Ok(false),
        "1" | "y" | "yes" | "t" | "true" | "on" => Ok(true),
        other => Err(format!("{other} is neither yes nor no: write 1 or 0")),
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Flags that every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The hypervisor.
    #[arg(
        long,
        global = true,
        value_name = "URI",
        default_value = DEFAULT_CONNECT,
        env = "TWIN_CONNECT"
    )]
    pub(crate) connect: String,
    /// The lab; the only one there is when not given.
    #[arg(long, global = true, value_name = "NAME", env = "TWIN_LAB")]
    pub(crate) lab: Option<String>,
    /// Where twin keeps what it keeps.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = DEFAULT_STATE_DIR,
        env = "TWIN_STATE_DIR"
    )]
    pub(crate) state_dir: PathBuf,
    /// One JSON document on standard output, and nothing else there.
    #[arg(long, global = true, env = "TWIN_JSON", value_parser = boolish, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, hide_possible_values = true)]
    pub(crate) json: bool,
    /// The debug log on standard error too; twice, with that of all libraries.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "TWIN_VERBOSE")]
    pub(crate) verbose: u8,
    /// Colours.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        env = "TWIN_COLOR"
    )]
    pub(crate) color: Color,
}
