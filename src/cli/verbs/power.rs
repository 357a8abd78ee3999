//! `twin power`.

use clap::{Args, ValueEnum};
use tracing::instrument;

use super::{DONE, milliseconds};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::hypervisor::PowerAction;
use crate::lab;
use crate::report::ChangeDocument;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Starts it.
    On,
    /// Takes its power away at once.
    Off,
    /// Off, then on.
    Cycle,
}

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// What to do.
    #[arg(value_enum)]
    pub(crate) switch: Switch,
    /// The host.
    pub(crate) host: String,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let (found, lock) = context.locked_lab("power").await?;
    let (actions, word): (&[PowerAction], _) = match flags.switch {
        Switch::On => (&[PowerAction::Start], "power on"),
        Switch::Off => (&[PowerAction::Destroy], "power off"),
        Switch::Cycle => (&[PowerAction::Destroy, PowerAction::Start], "power cycle"),
    };
    let started = context.drivers().clock.elapsed();
    let state = lab::power(
        &found,
        &lock,
        &flags.host,
        actions,
        context.drivers(),
        context.layout(),
    )
    .await?;
    context
        .ui
        .text(&format!("{}: {state:?}\n", flags.host).to_lowercase());
    context.ui.document(&ChangeDocument {
        took_ms: milliseconds(context.drivers().clock.elapsed().saturating_sub(started)),
        ..ChangeDocument::new(found.record.name.as_str(), word, vec![flags.host.clone()])
    });
    DONE
}
