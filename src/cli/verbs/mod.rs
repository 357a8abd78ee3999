//! One file a verb.

pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod cp;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod exec;
pub(crate) mod halt;
pub(crate) mod power;
pub(crate) mod recover;
pub(crate) mod release;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod runs;
pub(crate) mod scenario;
pub(crate) mod schema;
pub(crate) mod snapshot;
pub(crate) mod snapshots;
pub(crate) mod status;
pub(crate) mod up;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use uuid::Uuid;

use super::context::{Context, this_command_as_root};
use super::failure::{Failure, code};
use super::flags::{Cli, Verb};
use super::logging;
use super::ui::Ui;
use crate::lab::{Found, Layout, Silent, started};
use crate::snapshot::{self as baselines, Set, SnapshotError};

/// How often a run looks whether it is halted.
const HALT_LOOK: Duration = Duration::from_millis(200);

/// Refuses `--json` for a verb that has no document.
pub(crate) fn no_document(ui: &Ui, verb: &str) -> Result<(), Failure> {
    if ui.json {
        return Err(Failure::usage(
            format!("{verb} has no JSON document"),
            vec!["leave --json out".into()],
        ));
    }
    Ok(())
}

/// Carries a verb out; returns the exit code.
pub(crate) async fn run(cli: Cli, ui: &Ui) -> u8 {
    let context = Context::new(&cli.global, ui);
    if let Some(failure) = needs_root(&cli.verb) {
        return ui.failure(&failure);
    }
    logging::start(logged(&cli.verb), cli.global.verbose);
    let outcome = match &cli.verb {
        Verb::Doctor(flags) => doctor::run(&context, flags).await,
        Verb::Up(flags) => up::run(&context, flags).await,
        Verb::Status(flags) => status::run(&context, flags).await,
        Verb::Exec(flags) => exec::run(&context, flags).await,
        Verb::Cp(flags) => cp::run(&context, flags).await,
        Verb::Console(flags) => console::run(&context, flags).await,
        Verb::Power(flags) => power::run(&context, flags).await,
        Verb::Down(flags) => down::run(&context, flags).await,
        Verb::Destroy(flags) => destroy::run(&context, flags).await,
        Verb::Release(flags) => release::run(&context, flags).await,
        Verb::Snapshot(flags) => snapshot::run(&context, flags).await,
        Verb::Snapshots(flags) => snapshots::run(&context, flags).await,
        Verb::Restore(flags) => restore::run(&context, flags).await,
        Verb::Scenario(flags) => scenario::run(&context, flags).await,
        Verb::Runs(flags) => runs::run(&context, flags).await,
        Verb::Report(flags) => report::run(&context, flags).await,
        Verb::Recover(flags) => recover::run(&context, flags).await,
        Verb::Halt(flags) => halt::run(&context, flags).await,
        Verb::Schema(flags) => schema::run(ui, flags),
        Verb::Completions(flags) => completions::run(ui, flags),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            tracing::error!(code = failure.code, "{}", failure.message);
            // Nothing is made for a lab that was not found.
            if context.layout().state().exists() {
                logging::begin(context.layout().state());
            }
            ui.failure(&failure)
        }
    }
}

/// The verbs that leave a log: those that change something.
fn logged(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Up(flags) if flags.dry_run => None,
        Verb::Up(_) => Some("up"),
        Verb::Power(_) => Some("power"),
        Verb::Down(flags) if flags.consent.dry_run => None,
        Verb::Down(_) => Some("down"),
        Verb::Destroy(flags) if flags.consent.dry_run => None,
        Verb::Destroy(_) => Some("destroy"),
        Verb::Release(flags) if flags.consent.dry_run => None,
        Verb::Release(_) => Some("release"),
        Verb::Snapshot(flags) if flags.changes_something() => Some("snapshot"),
        Verb::Restore(flags) if flags.consent.dry_run => None,
        Verb::Restore(_) => Some("restore"),
        Verb::Scenario(flags) if flags.changes_something() => Some("scenario"),
        Verb::Recover(_) => Some("recover"),
        _ => None,
    }
}

/// Refuses what only root can do, before anything is done: bridges are marked and rules made, disks are QEMU's to open, and
/// the guests' sockets and consoles are root's. Members of the group libvirt can look.
fn needs_root(verb: &Verb) -> Option<Failure> {
    let into_guests = matches!(verb, Verb::Exec(_) | Verb::Cp(_) | Verb::Console(_));
    let acts = logged(verb).is_some() || into_guests;
    if !acts || nix::unistd::geteuid().is_root() {
        return None;
    }
    Some(Failure::machine(
        "no permission: this changes bridges, rules, disks and guests, which only root may",
        vec![format!("run as root: `{}`", this_command_as_root())],
    ))
}

/// Runs `work` until it ends or the user interrupts.
pub(crate) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
    on_interrupt: impl FnOnce() -> Failure,
) -> Result<T, Failure> {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(on_interrupt()),
        () = terminate => Err(on_interrupt()),
    }
}

/// The first Ctrl-C, or its like, asks a verb to come to an end; the second one ends it.
pub(crate) struct Interrupt {
    receiver: watch::Receiver<bool>,
    listener: tokio::task::JoinHandle<()>,
}

impl Interrupt {
    /// Listens from now on until dropped; where a state directory is given, `twin halt` asks for the end too.
    pub(crate) fn listen(halt: Option<Layout>) -> Self {
        let (interrupt, receiver) = watch::channel(false);
        let listener = tokio::spawn(async move {
            let terminate = signal(SignalKind::terminate());
            let hang_up = signal(SignalKind::hangup());
            let (Ok(mut terminate), Ok(mut hang_up)) = (terminate, hang_up) else {
                return;
            };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
                () = halted(halt) => {}
            }
            // A verb that has ended takes no notice.
            let _ = interrupt.send(true);
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            // What is open stays in the journal, and `twin recover` finishes it.
            std::process::exit(i32::from(code::INTERRUPTED));
        });
        Self { receiver, listener }
    }

    /// Turns true when the end is asked for.
    pub(crate) const fn receiver(&self) -> &watch::Receiver<bool> {
        &self.receiver
    }
}

/// Returns once runs are halted; never without a place to look.
async fn halted(halt: Option<Layout>) {
    let Some(layout) = halt else {
        return std::future::pending().await;
    };
    while layout.halted().is_none() {
        tokio::time::sleep(HALT_LOOK).await;
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// What of a lab is not put back, in words. Called with its lock held.
pub(crate) fn dirty(set: &Set<'_>) -> Result<Vec<String>, Failure> {
    let mut dirty = baselines::unfinished(set.journal, set.found.record.uuid)?;
    let acts = set.journal.open_acts(set.found.record.uuid)?;
    dirty.extend(
        acts.iter()
            .map(|act| format!("{} of run {} is not put back", act.step, act.run)),
    );
    Ok(dirty)
}

/// What losing the disks of hosts takes with it, in words.
pub(crate) fn lost_with_disks(
    context: &Context<'_>,
    lab: Uuid,
    hosts: &[&str],
) -> Result<Vec<String>, Failure> {
    let lost = baselines::that_need(context.layout(), lab, hosts)?;
    let note = |name: &String| {
        format!(
            "baseline {name} goes with the disks of {}; `twin snapshot {name} --remove` frees the rest of it",
            hosts.join(", ")
        )
    };
    Ok(lost.iter().map(note).collect())
}

/// What a verb does to hosts, as far as faults that are not reverted are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It boots hosts, from whatever disks they have.
    Boots,
    /// It stops hosts, or lets them go on.
    Stops,
    /// It discards what is on their disks.
    Wipes,
}

/// Says what of a lab is DIRTY before a verb acts on it, and refuses where the verb would make it worse: hosts that boot from
/// the wrong disks, or in the middle of a restore, write to them. Called with the lab's lock held.
pub(crate) fn say_dirty(context: &Context<'_>, found: &Found, does: Does) -> Result<(), Failure> {
    let Some(journal) = context.journal_if_there()? else {
        return Ok(());
    };
    let set = context.set(found, &journal, &Silent);
    let dirty = dirty(&set)?;
    if dirty.is_empty() {
        return Ok(());
    }
    if matches!(does, Does::Boots | Does::Wipes) {
        refuse_disks_aside(&set)?;
        refuse_unfinished(&set)?;
    }
    for what in &dirty {
        context.ui.remark(&format!("DIRTY: {what}"));
    }
    let means = match does {
        Does::Boots => {
            "faults inside a host's memory end with its boot, others stay until `twin recover`"
        }
        Does::Stops => "`twin recover` needs hosts that run to revert what was done inside them",
        Does::Wipes => {
            "what was done inside the hosts goes with their disks; `twin recover` reverts the rest"
        }
    };
    context.ui.remark(&format!("DIRTY means here: {means}"));
    Ok(())
}

/// Refuses where something about baselines was broken off.
pub(crate) fn refuse_unfinished(set: &Set<'_>) -> Result<(), Failure> {
    refuse(&baselines::unfinished(set.journal, set.found.record.uuid)?)
}

/// Refuses while disks of hosts are aside: what a baseline has in the disks would be in others soon, or is not in these.
pub(crate) fn refuse_disks_aside(set: &Set<'_>) -> Result<(), Failure> {
    let open = set.journal.open_acts(set.found.record.uuid)?;
    let aside = open
        .iter()
        .filter(|act| crate::scenario::action::puts_disks_aside(&act.action))
        .map(|act| {
            format!(
                "{} of run {} is not put back, and other disks are in the hosts",
                act.step, act.run
            )
        });
    let aside: Vec<String> = aside.collect();
    if aside.is_empty() {
        return Ok(());
    }
    Err(Failure::dirty(
        aside.join("\n"),
        vec!["`twin recover` puts the disks back".into()],
    ))
}

/// The same before a restore, which takes the place of one that was broken off.
pub(crate) fn refuse_unfinished_but_restores(set: &Set<'_>) -> Result<(), Failure> {
    let unfinished = baselines::unfinished_but_restores(set.journal, set.found.record.uuid)?;
    refuse(&unfinished)
}

fn refuse(unfinished: &[String]) -> Result<(), Failure> {
    if unfinished.is_empty() {
        return Ok(());
    }
    Err(Failure::dirty(
        unfinished.join("\n"),
        vec!["`twin recover` finishes it".into()],
    ))
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let (message, cures) = (error.to_string(), error.cures());
        match error {
            SnapshotError::Lab(error) => error.into(),
            SnapshotError::Unknown { .. } | SnapshotError::Exists { .. } => {
                Self::usage(message, cures)
            }
            SnapshotError::Gates { .. } => Self::failed(message, cures),
            SnapshotError::Dirty { .. } => Self::dirty(message, cures),
            SnapshotError::Interrupted { .. } => Self::interrupted(message, cures),
            SnapshotError::Io { .. }
            | SnapshotError::Refused { .. }
            | SnapshotError::Mode { .. }
            | SnapshotError::Damaged { .. }
            | SnapshotError::StandsTooLong { .. }
            | SnapshotError::PutBack { .. } => Self::machine(message, cures),
        }
    }
}

/// How long ago this command was given: its process is as old, `exec` notwithstanding. To 10 ms.
pub(crate) fn since_given() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    use nix::unistd::{SysconfVar, sysconf};
    let ticks = started(std::process::id());
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .map(Duration::from);
    let (Some(ticks), Some(per_second), Some(now)) = (ticks, per_second, now) else {
        return Duration::ZERO;
    };
    let started_ms = ticks * 1000 / per_second.unsigned_abs().max(1);
    now.saturating_sub(Duration::from_millis(started_ms))
}

/// Milliseconds of a duration.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Done.
pub(crate) const DONE: Result<u8, Failure> = Ok(code::DONE);
