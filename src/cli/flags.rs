//! Global flags, and the list of verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::verbs;

/// `twin --version` names the commit where the build knew it.
const VERSION: &str = match option_env!("TWIN_COMMIT") {
    Some(commit) => commit,
    None => env!("CARGO_PKG_VERSION"),
};

/// The hypervisor where none is named.
pub(crate) const DEFAULT_CONNECT: &str = "qemu:///system";

/// The state directory where none is named.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/twin";

const EXIT_CODES: &str = "Exit codes:
  0    done, or the verdict is pass
  1    a verdict failed, or a change has to be asked for
  2    bad usage or bad input
  3    inconclusive
  4    the machine cannot
  5    DIRTY: something could not be put back; run `twin recover`
  130  interrupted";

/// Builds a lab of virtual machines from a topology, and replays incidents in it.
#[derive(Debug, Parser)]
#[command(name = "twin", version = VERSION, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

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

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows what this machine can do, with the cure where it cannot.
    Doctor(verbs::doctor::Flags),
    /// Builds the lab, or what of it is missing.
    Up(verbs::up::Flags),
    /// Shows the lab.
    Status(verbs::status::Flags),
    /// Runs a program on one host or all.
    Exec(verbs::exec::Flags),
    /// Copies a file to or from a host.
    Cp(verbs::cp::Flags),
    /// Opens a host's serial console.
    Console(verbs::console::Flags),
    /// Switches a host on or off.
    Power(verbs::power::Flags),
    /// Shuts the lab's hosts down.
    Down(verbs::down::Flags),
    /// Removes the lab: all that carries its mark.
    Destroy(verbs::destroy::Flags),
    /// Wipes hosts to blank and leaves them off, as a MAAS release does.
    Release(verbs::release::Flags),
    /// Takes a baseline of all hosts, or verifies, shows or removes one.
    Snapshot(verbs::snapshot::Flags),
    /// Lists baselines.
    Snapshots(verbs::snapshots::Flags),
    /// Puts all hosts back to a baseline.
    Restore(verbs::restore::Flags),
    /// Lists scenarios, or runs one.
    Scenario(verbs::scenario::Flags),
    /// Lists past runs, of the lab that `--lab` names or of all.
    Runs(verbs::runs::Flags),
    /// Shows a past run.
    Report(verbs::report::Flags),
    /// Puts back what runs that were killed have left.
    Recover(verbs::recover::Flags),
    /// Ends all runs now and refuses new ones.
    Halt(verbs::halt::Flags),
    /// Prints the JSON schema of a document or file.
    Schema(verbs::schema::Flags),
    /// Prints completions for a shell.
    Completions(verbs::completions::Flags),
}
