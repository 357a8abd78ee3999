//! The list of verbs, and the flags of those that have many.

pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod scenario;
pub(crate) mod snapshot;
pub(crate) mod up;

use clap::{Parser, Subcommand};

use super::global::Global;
use super::verbs;

/// `twin --version` names the commit where the build knew it.
const VERSION: &str = match option_env!("TWIN_COMMIT") {
    Some(commit) => commit,
    None => env!("CARGO_PKG_VERSION"),
};

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

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Shows what this machine can do, with the cure where it cannot.
    Doctor(verbs::doctor::Flags),
    /// Builds the lab, or what of it is missing.
    Up(up::Flags),
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
    Snapshot(snapshot::Flags),
    /// Lists baselines.
    Snapshots(verbs::snapshots::Flags),
    /// Puts all hosts back to a baseline.
    Restore(restore::Flags),
    /// Lists scenarios, or runs one.
    Scenario(scenario::Flags),
    /// Lists past runs, of the lab that `--lab` names or of all.
    Runs(verbs::runs::Flags),
    /// Shows a past run.
    Report(report::Flags),
    /// Puts back what runs that were killed have left.
    Recover(verbs::recover::Flags),
    /// Ends all runs now and refuses new ones.
    Halt(verbs::halt::Flags),
    /// Prints the JSON schema of a document or file.
    Schema(verbs::schema::Flags),
    /// Prints completions for a shell.
    Completions(verbs::completions::Flags),
}
