//! The flags of `twin restore`.

use clap::{Args, ValueEnum};

use crate::cli::consent::Consent;
use crate::snapshot::{Clocks, Options};
use crate::units::Name;

/// What happens to the guests' clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClockChoice {
    /// They go on as they are.
    Keep,
    /// They are set to this machine's.
    Host,
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The baseline's name.
    pub(crate) name: Name,
    /// What happens to the guests' clocks.
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) clock: ClockChoice,
    /// Tries it also where another QEMU or CPU than the one that saved a host's state would load it.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

impl Flags {
    pub(crate) const fn options(&self) -> Options {
        let clocks = match self.clock {
            ClockChoice::Keep => Clocks::Keep,
            ClockChoice::Host => Clocks::Host,
        };
        Options {
            clocks,
            force: self.force,
        }
    }
}
