//! `twin restore`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::instrument;

use crate::cli::consent::{Consent, ask, end_dry_run};
use crate::cli::context::Context;
use crate::cli::elapsed::{milliseconds, since_given};
use crate::cli::failure::{DONE, Failure};
use crate::cli::interrupt::Interrupt;
use crate::journal::Journal;
use crate::lab::Found;
use crate::report::{RestoreDocument, RestoredHostDocument};
use crate::scenario;
use crate::snapshot::{self, Clocks, Manifest, Options, Restored, Set};
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

/// What goes: whatever the hosts did since the baseline was taken.
fn goes(found: &Found, manifest: &Manifest) -> Vec<String> {
    let hosts = found.hosts.iter().map(|host| host.name.to_string());
    vec![format!(
        "memory and disks of {} as they are now: all since {}, when {} was taken",
        hosts.collect::<Vec<_>>().join(", "),
        manifest.taken(),
        manifest.name
    )]
}

async fn dry_run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let manifest = snapshot::shown(
        context.site.layout(),
        found.record.uuid,
        flags.name.as_str(),
    )?;
    let goes = goes(&found, &manifest);
    Ok(end_dry_run(
        context,
        found.record.name.as_str(),
        "restore",
        goes,
        Vec::new(),
    ))
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), name = %flags.name))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    if flags.consent.dry_run {
        return dry_run(context, flags).await;
    }
    let (found, lock) = context.site.locked_lab("restore").await?;
    let journal = context.site.journal()?;
    let watch = context.ui.watch();
    let set = Set {
        lock: Some(&lock),
        ..context.site.set(&found, &journal, watch.as_ref())
    };
    crate::cli::dirty::refuse_unfinished_but_restores(&set)?;
    let manifest = snapshot::show(&set, flags.name.as_str())?;
    ask(context, flags.consent.yes, &goes(&found, &manifest)).await?;
    recover_outside(context, &found, &journal).await?;
    let clocks = match flags.clock {
        ClockChoice::Keep => Clocks::Keep,
        ClockChoice::Host => Clocks::Host,
    };
    let options = Options {
        clocks,
        force: flags.force,
    };
    let interrupt = Interrupt::listen(None);
    // People wait from the moment that they have asked.
    let before = since_given(context.site.drivers().clock.as_ref());
    let restored =
        snapshot::restore(set, flags.name.as_str(), options, interrupt.receiver()).await?;
    tell(context, &found, flags, restored, before);
    DONE
}

/// Puts back what runs have done to this machine: the hosts are put back by the baseline, and that is not in it.
async fn recover_outside(
    context: &Context<'_>,
    found: &Found,
    journal: &Journal,
) -> Result<(), Failure> {
    let world = context.site.world(found.clone());
    for run in scenario::recover_outside(&world, journal).await? {
        for (step, done) in &run.undone {
            context
                .ui
                .remark(&format!("run {}: {step}: {done}", run.run));
        }
        if let Some((step, why)) = run.left.first() {
            return Err(Failure::dirty(
                format!(
                    "{step} of run {} is not put back: {why}; nothing was stopped",
                    run.run
                ),
                vec!["`twin recover` tries again".into()],
            ));
        }
    }
    Ok(())
}

/// Tells what came of a restore that was asked for `before` it began.
fn tell(context: &Context<'_>, found: &Found, flags: &Flags, restored: Restored, before: Duration) {
    let (running, ready) = (before + restored.running, before + restored.ready);
    for host in &restored.hosts {
        if let Some(why) = &host.restarted {
            context
                .ui
                .remark(&format!("{} was started anew: {why}", host.name));
        }
    }
    let lag = restored.clock_lag_ms.map_or_else(String::new, |lag| {
        format!(
            ", clocks {} ms {}",
            lag.abs(),
            if lag < 0 { "ahead" } else { "behind" }
        )
    });
    context.ui.text(&format!(
        "{} is at {} again: all ran after {} ms, all answered after {} ms{lag}\n",
        found.record.name,
        flags.name,
        running.as_millis(),
        ready.as_millis(),
    ));
    let hosts = restored.hosts.into_iter().map(|host| RestoredHostDocument {
        name: host.name,
        power: host.power,
        restarted: host.restarted,
        clock_lag_ms: host.clock_lag_ms,
    });
    context.ui.document(&RestoreDocument {
        schema: "twin/restore/v1".into(),
        name: flags.name.to_string(),
        rung: restored.manifest.rung.to_string(),
        running_ms: milliseconds(running),
        ready_ms: milliseconds(ready),
        clock_lag_ms: restored.clock_lag_ms,
        hosts: hosts.collect(),
    });
}
