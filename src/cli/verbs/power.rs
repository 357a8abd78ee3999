//! `twin power`.

use clap::{Args, ValueEnum};
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::dirty::{Does, say_dirty};
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{DONE, Failure};
use crate::report::ChangeDocument;
use crate::service;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Starts it.
    On,
    /// Takes its power away at once.
    Off,
    /// Off, then on.
    Cycle,
    /// Lets a host go on that is paused, where it stands.
    Resume,
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// What to do.
    #[arg(value_enum)]
    pub(crate) switch: Switch,
    /// The host.
    pub(crate) host: String,
}

impl Switch {
    /// What it is, what it means for faults that are open, and how documents call it.
    const fn means(self) -> (service::Switch, Does, &'static str) {
        match self {
            Self::On => (service::Switch::On, Does::Boots, "power on"),
            Self::Off => (service::Switch::Off, Does::Stops, "power off"),
            Self::Cycle => (service::Switch::Cycle, Does::Boots, "power cycle"),
            Self::Resume => (service::Switch::Resume, Does::Stops, "power resume"),
        }
    }
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let (site, host) = (&context.site, flags.host.as_str());
    let (found, lock) = site.locked_lab("power").await?;
    let (switch, does, word) = flags.switch.means();
    switch.check(found.host(host)?)?;
    say_dirty(context, &found, does)?;
    let started = site.drivers().clock.elapsed();
    let watch = context.ui.watch();
    let state = service::power(site, (&found, &lock), host, switch, watch.as_ref()).await?;
    let told = format!("{host}: {state:?}\n").to_lowercase();
    context.ui.text(&told);
    context.ui.document(&ChangeDocument {
        took_ms: milliseconds(site.since(started)),
        ..ChangeDocument::new(found.record.name.as_str(), word, vec![flags.host.clone()])
    });
    DONE
}
