//! The flags of `twin scenario`.

use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;
use crate::scenario::{Choice, Scenario};
use crate::units::Seed;

/// What follows an undo that did not bring the lab back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// It is reported.
    Report,
    /// The run's baseline is restored.
    Restore,
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The scenario: a path or a name; without one, lists what there is.
    pub(crate) name: Option<String>,
    /// The worlds it runs in.
    #[arg(
        long,
        value_name = "WORLD",
        value_delimiter = ',',
        default_value = "lab"
    )]
    pub(crate) on: Vec<String>,
    /// The variants; all when not given.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) variant: Vec<String>,
    /// Says what would be done, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Tells the scenario's story.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Sets a variable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// What is done where the undo is not enough: nothing more, or the baseline from before the run is restored.
    #[arg(long, value_enum, default_value = "report")]
    pub(crate) on_failure: OnFailure,
    /// Leaves the failure in place, to be looked at; `twin recover` puts it back. Of one variant.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Writes what happens, as JSON lines and while it happens, to standard output, in place of the result.
    #[arg(long, conflicts_with_all = ["dry_run", "explain"])]
    pub(crate) events: bool,
    /// The seed of its random choices; chosen when not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<Seed>,
}

impl Flags {
    /// What of a scenario is run, and how.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            variants: self.variant.clone(),
            set: self.set.iter().cloned().collect(),
            restore_on_failure: self.on_failure == OnFailure::Restore,
            self_test: None,
            keep: self.keep,
        }
    }

    /// Refuses worlds that there are not, and variables that the scenario does not have.
    pub(crate) fn check(&self, scenario: &Scenario) -> Result<(), Failure> {
        if let Some(world) = self.on.iter().find(|world| *world != "lab") {
            let what = if ["sim", "real"].contains(&world.as_str()) {
                format!("this version of twin does not have the world {world}")
            } else {
                format!("there is no world {world}")
            };
            return Err(Failure::usage(what, vec!["--on lab".into()]));
        }
        let mut set = self.set.iter();
        if let Some((unknown, _)) = set.find(|(name, _)| !scenario.knows_variable(name)) {
            let what = format!("{} has no variable {unknown}", scenario.name);
            let cure = "`twin scenario NAME --explain` shows its variables".into();
            return Err(Failure::usage(what, vec![cure]));
        }
        Ok(())
    }

    /// Whether it is more than a look.
    pub(crate) const fn changes_something(&self) -> bool {
        self.name.is_some() && !self.dry_run && !self.explain
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "write KEY=VALUE".to_owned())
}
