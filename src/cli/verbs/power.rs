//! `twin power`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::dirty::{Does, say_dirty};
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{DONE, Failure};
use crate::hypervisor::{Power, PowerAction};
use crate::lab::{self, Found, FoundHost};
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

/// Refuses what would lose more, and says what is DIRTY.
fn refuse_what_makes_worse(
    context: &Context<'_>,
    found: &Found,
    switch: Switch,
    host: &FoundHost,
) -> Result<(), Failure> {
    let power = host.domain.power;
    if switch == Switch::Resume && power != Power::Paused {
        let what = format!("{} is {power:?}, and not paused", host.name).to_lowercase();
        return Err(Failure::failed(what, vec!["`twin status` shows it".into()]));
    }
    if switch == Switch::On && power == Power::Paused {
        let what = format!("{} is paused, not off", host.name);
        let cure = format!("`twin power resume {}` lets it go on", host.name);
        return Err(Failure::failed(what, vec![cure]));
    }
    match switch {
        Switch::On | Switch::Cycle => say_dirty(context, found, Does::Boots),
        Switch::Off | Switch::Resume => say_dirty(context, found, Does::Stops),
    }
}

/// Sees whether a host that was let go goes on: QEMU pauses it again at once where there is still no space.
async fn stays(
    context: &Context<'_>,
    found: &Found,
    host: &str,
    state: Power,
) -> Result<Power, Failure> {
    const LOOK: Duration = Duration::from_millis(100);
    const LOOKS: u32 = 20;
    if state == Power::Paused {
        return Ok(state);
    }
    let drivers = context.site.drivers();
    let target = found.host(host)?.target(found.record.uuid);
    for _ in 0..LOOKS {
        drivers.clock.sleep(LOOK).await;
        if drivers.hypervisor.power_state(target).await? == Power::Paused {
            return Err(Failure::machine(
                format!(
                    "{host} was let go, and QEMU has paused it again: its disk could not be written"
                ),
                vec!["free space on the state disk, then run the same command again".into()],
            ));
        }
    }
    Ok(state)
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let (found, lock) = context.site.locked_lab("power").await?;
    let (actions, word): (&[PowerAction], _) = match flags.switch {
        Switch::On => (&[PowerAction::Start], "power on"),
        Switch::Off => (&[PowerAction::Destroy], "power off"),
        Switch::Cycle => (&[PowerAction::Destroy, PowerAction::Start], "power cycle"),
        Switch::Resume => (&[PowerAction::Resume], "power resume"),
    };
    let host = found.host(&flags.host)?;
    refuse_what_makes_worse(context, &found, flags.switch, host)?;
    let started = context.site.drivers().clock.elapsed();
    let mut state = lab::power(
        &found,
        &lock,
        &flags.host,
        actions,
        context.site.drivers(),
        context.site.layout(),
        context.ui.watch().as_ref(),
    )
    .await?;
    if flags.switch == Switch::Resume {
        state = stays(context, &found, &flags.host, state).await?;
    }
    context
        .ui
        .text(&format!("{}: {state:?}\n", flags.host).to_lowercase());
    context.ui.document(&ChangeDocument {
        took_ms: milliseconds(context.site.since(started)),
        ..ChangeDocument::new(found.record.name.as_str(), word, vec![flags.host.clone()])
    });
    DONE
}
