//! `twin recover`.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::guard::{other_died, to_work};
use crate::cli::wiring;
use crate::hypervisor::{Power, PowerAction};
use crate::journal::{ActState, OpenAct};
use crate::lab::{self, BOOT_DEADLINE, Found, LabError, Lock, Silent, choose};
use crate::report::{RecoverDocument, RecoveredRun};
use crate::scenario::{self, Recovered};
use crate::snapshot;

/// How often the watchdog looks for faults that are overdue.
const LOOK: Duration = Duration::from_secs(1);

/// Between two tries of the watchdog, and how long it goes on trying once the other twin is dead.
const AGAIN: Duration = Duration::from_secs(5);
const PERSISTS: Duration = Duration::from_secs(3600);

/// How long libvirt may take to answer at boot.
const LIBVIRT_DEADLINE: Duration = Duration::from_secs(300);

/// What a living twin has to put a fault back itself, once its time is over.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Waits for the twin that started this one, and finishes what it began with baselines should it die.
    #[arg(long, hide = true)]
    pub(crate) stand_by: bool,
    /// Before libvirtd runs, at boot: puts back what needs no libvirt, and keeps hosts with open faults from being started.
    #[arg(long, hide = true, conflicts_with = "stand_by")]
    pub(crate) before_libvirt: bool,
    /// Once libvirtd runs, at boot: puts back what is open in all labs, and starts the hosts that were kept from it.
    #[arg(long, hide = true, conflicts_with_all = ["stand_by", "before_libvirt"])]
    pub(crate) after_boot: bool,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    if flags.stand_by {
        return stand_by(context).await;
    }
    if flags.before_libvirt {
        return before_libvirt(context);
    }
    if flags.after_boot {
        return after_boot(context).await;
    }
    let (found, _lock) = context.locked_lab_in_time("recover").await?;
    put_right(context, found).await
}

/// At boot, before libvirtd runs.
fn before_libvirt(context: &Context<'_>) -> Result<u8, Failure> {
    crate::cli::ui::no_document(context.ui, "recover --before-libvirt")?;
    if let Some(process) = wiring::hypervisor_runs() {
        return Err(Failure::machine(
            format!("{process} runs, and this is for the time before it: nothing was done"),
            vec!["`twin recover` puts back what is open".into()],
        ));
    }
    let Some(journal) = context.existing_journal()? else {
        return DONE;
    };
    let autostarted =
        wiring::autostarted().map_err(LabError::io("reading what libvirtd starts at boot"))?;
    let told = scenario::before_libvirt(&journal, &autostarted).map_err(LabError::from)?;
    print(context, &told);
    Ok(if told.left.is_empty() {
        code::DONE
    } else {
        code::DIRTY
    })
}

/// At boot, once libvirtd runs. A lab that cannot be put right does not keep the others from it.
async fn after_boot(context: &Context<'_>) -> Result<u8, Failure> {
    crate::cli::ui::no_document(context.ui, "recover --after-boot")?;
    let mut worst = code::DONE;
    for found in labs_at_boot(context).await? {
        let outcome = lab_after_boot(context, &found).await;
        let code = outcome.unwrap_or_else(|failure| context.ui.failure(&failure));
        worst = worst.max(code);
    }
    Ok(worst)
}

/// All labs, once libvirt answers: it may have started a moment ago, and ask each emulator what that can do.
async fn labs_at_boot(context: &Context<'_>) -> Result<Vec<Found>, Failure> {
    let clock = &context.drivers().clock;
    let until = clock.elapsed() + LIBVIRT_DEADLINE;
    loop {
        match context.labs().await {
            Err(failure) if failure.code == code::MACHINE && clock.elapsed() < until => {
                tracing::info!(%failure.message, "libvirt does not answer yet");
                clock.sleep(AGAIN).await;
            }
            labs => return labs,
        }
    }
}

/// What was done to this machine is put back first; then the hosts that were kept from it are started, and what was done inside
/// them is put back there.
async fn lab_after_boot(context: &Context<'_>, found: &Found) -> Result<u8, Failure> {
    let (name, lab) = (&found.record.name, found.record.uuid);
    let own = found.state();
    if let Some(state) = own.filter(|state| state != context.layout().state()) {
        let state = state.display();
        context.ui.remark(&format!(
            "lab {name} has its files in {state}: `twin --state-dir {state} recover --after-boot`"
        ));
        return DONE;
    }
    let lock = context.lock(found, "recover")?;
    // Read again: the lock is held now.
    let labs = context.labs().await?;
    let Some(found) = labs.into_iter().find(|now| now.record.uuid == lab) else {
        return DONE;
    };
    let journal = context.journal()?;
    let open = journal.open_acts(lab).map_err(LabError::from)?;
    if open.is_empty() && journal.unfinished(lab).map_err(LabError::from)?.is_empty() {
        return DONE;
    }
    context.ui.text(&format!("lab {name}\n"));
    let hosts = scenario::put_off(&journal, lab).map_err(LabError::from)?;
    let world = context.world(found.clone());
    for run in scenario::recover_outside(&world, &journal).await? {
        for (step, done) in &run.undone {
            context
                .ui
                .text(&format!("run {}: {step}: {done}\n", run.run));
        }
    }
    let mut failed = code::DONE;
    for host in &hosts {
        if let Err(failure) = start(context, &found, &lock, host).await {
            failed = failed.max(context.ui.failure(&failure));
            let cure = format!("{host} is off; `twin --lab {name} power on {host}` starts it");
            context.ui.remark(&cure);
        }
    }
    Ok(put_right(context, found).await?.max(failed))
}

/// Starts a host that libvirtd would have started, and waits until its guest answers.
async fn start(
    context: &Context<'_>,
    found: &Found,
    lock: &Lock,
    host: &str,
) -> Result<(), Failure> {
    let drivers = context.drivers();
    let target = found.host(host)?.target(found.record.uuid);
    let power = drivers.hypervisor.power_state(target).await;
    if power.map_err(LabError::from)? != Power::ShutOff {
        return Ok(());
    }
    let (start, watch) = ([PowerAction::Start], context.ui.watch());
    let layout = context.layout();
    lab::power(found, lock, host, &start, drivers, layout, watch.as_ref()).await?;
    context.ui.text(&format!("{host} is started\n"));
    if let Some(way) = found.host(host)?.way(layout, &found.networks) {
        let guest = drivers.guests.open(&way);
        tokio::select! {
            greeted = guest.greet(BOOT_DEADLINE) => drop(greeted.map_err(LabError::from)?),
            power = lab::stopped(drivers, target) => {
                let cure = format!("`twin power cycle {host}` starts it anew; then `twin recover`");
                let what = format!("{host} is {power:?} before its guest answered");
                return Err(Failure::machine(what, vec![cure]));
            }
        }
    }
    Ok(())
}

fn print(context: &Context<'_>, finished: &snapshot::Finished) {
    for done in &finished.done {
        context.ui.text(&format!("{done}\n"));
    }
    for left in &finished.left {
        context.ui.text(&format!("LEFT {left}\n"));
    }
}

/// Puts back all that is open in a lab. Called with its lock held.
async fn put_right(context: &Context<'_>, found: Found) -> Result<u8, Failure> {
    let journal = context.journal()?;
    let world = context.world(found);
    let watch = context.ui.watch();
    let set = context.set(&world.found, &journal, watch.as_ref());
    // What was done to the hosts is put back in hosts that are whole; where that fails, what can be is put back all the same.
    let (finished, failed) = match snapshot::recover(set).await {
        Ok(finished) => (finished, None),
        Err(error) => (snapshot::Finished::default(), Some(error)),
    };
    let recovered = scenario::recover(&world, &journal).await?;
    print(context, &finished);
    for run in &recovered {
        for (step, done) in &run.undone {
            context
                .ui
                .text(&format!("run {}: {step}: {done}\n", run.run));
        }
        for (step, why) in &run.left {
            context
                .ui
                .text(&format!("run {}: LEFT {step}: {why}\n", run.run));
        }
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    let clean = finished.left.is_empty() && recovered.iter().all(|run| run.left.is_empty());
    let mut finished = finished;
    let mut differences = Vec::new();
    if clean {
        let cleared = scenario::clear(&world, &journal, watch.as_ref()).await?;
        for told in cleared.done.iter().chain(&cleared.differences) {
            context.ui.text(&format!("{told}\n"));
        }
        finished.done.extend(cleared.done);
        differences = cleared.differences;
    }
    let as_before = differences.is_empty();
    let nothing = recovered.is_empty() && as_before;
    if nothing && finished == snapshot::Finished::default() {
        context.ui.text("nothing is open\n");
    }
    if !clean {
        let mend = "DIRTY: see to what keeps each from being put back, then `twin recover` again\n";
        context.ui.text(mend);
    }
    context.ui.document(&RecoverDocument {
        schema: "twin/recover/v1".into(),
        runs: recovered.iter().map(document).collect(),
        finished: finished.done,
        left: finished.left,
        differences,
    });
    Ok(match (clean, as_before) {
        (false, _) => code::DIRTY,
        // All is put back, and something is not what it was all the same.
        (true, false) => code::FAILED,
        (true, true) => code::DONE,
    })
}

/// What came of a run's acts, as the document has it.
fn document(run: &Recovered) -> RecoveredRun {
    let text = |pairs: &[(String, String)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(step, what)| format!("{step}: {what}"))
            .collect()
    };
    RecoveredRun {
        run: run.run.clone(),
        undone: text(&run.undone),
        left: text(&run.left),
    }
}

/// What the watchdog does: while the other twin lives, it puts back what should be and is not; should that die, all.
async fn stand_by(context: &Context<'_>) -> Result<u8, Failure> {
    // A terminal that is closed is not its own.
    let _hang_up = signal(SignalKind::hangup());
    let clock = &context.drivers().clock;
    let mut waiting = tokio::task::spawn_blocking(other_died);
    let mut tried = Tried::default();
    loop {
        tokio::select! {
            died = &mut waiting => {
                if !died.is_ok_and(|died| died) {
                    return DONE;
                }
                break;
            }
            () = clock.sleep(LOOK) => lift_overdue(context, &mut tried).await,
        }
    }
    // A disk that is full, or a libvirtd that is down, may not be so for long.
    let until = clock.elapsed() + PERSISTS;
    loop {
        match finish(context).await {
            Err(failure) if clock.elapsed() < until => {
                tracing::warn!(why = failure.message, "nothing is put back so far");
                clock.sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// Finishes what a twin that died has left.
async fn finish(context: &Context<'_>) -> Result<u8, Failure> {
    let labs = context.labs().await?;
    if let Err(LabError::NoLab { .. }) = choose(labs, context.global.lab.as_deref()) {
        // It was destroyed, and what was open with it.
        return DONE;
    }
    let (found, _lock) = context.locked_lab_in_time("recover").await?;
    let journal = context.journal()?;
    let world = context.world(found);
    let finished = snapshot::recover(context.set(&world.found, &journal, &Silent)).await;
    let recovered = scenario::recover(&world, &journal).await?;
    for run in &recovered {
        let run_id = &run.run;
        for (step, done) in &run.undone {
            tracing::info!(run_id, step, done, "put back for a twin that died");
        }
        for (step, why) in &run.left {
            tracing::warn!(run_id, step, why, "not put back for a twin that died");
        }
    }
    let finished = finished?;
    for done in &finished.done {
        tracing::info!(done, "finished for a twin that died");
    }
    for left in &finished.left {
        tracing::warn!(left, "not finished for a twin that died");
    }
    if finished.left.is_empty() && recovered.iter().all(|run| run.left.is_empty()) {
        let cleared = scenario::clear(&world, &journal, &Silent).await?;
        for done in cleared.done {
            tracing::info!(done, "compared for a twin that died");
        }
        for difference in cleared.differences {
            tracing::warn!(difference, "compared for a twin that died");
        }
    }
    DONE
}

/// When which act could last not be put back.
type Tried = HashMap<(String, i64), Duration>;

/// Puts back faults whose time is over, where the twin that made them hangs.
async fn lift_overdue(context: &Context<'_>, tried: &mut Tried) {
    let Ok(Some(journal)) = context.existing_journal() else {
        return;
    };
    let clock = &context.drivers().clock;
    // It is nearly always nothing, and then the hypervisor is not asked.
    let later = |act: &OpenAct| {
        let last = tried.get(&(act.run.clone(), act.sequence));
        last.is_some_and(|last| clock.elapsed() < *last + AGAIN)
    };
    let over = journal.expired_acts(None, Duration::ZERO);
    if !over.is_ok_and(|acts| acts.iter().any(|act| !later(act))) {
        return;
    }
    to_work();
    let Ok(found) = context.lab().await else {
        return;
    };
    let world = context.world(found);
    let lifted = scenario::lift_overdue(&world, &journal, GRACE, &later).await;
    // What is left is tried again in a while.
    let left = journal.expired_acts(None, Duration::ZERO);
    for act in left.unwrap_or_default() {
        let state = journal.act_state(&act.run, act.sequence);
        let waits = tried
            .get(&(act.run.clone(), act.sequence))
            .is_some_and(|last| clock.elapsed() < *last + AGAIN);
        if matches!(state, Ok(Some(ActState::Left))) && !waits {
            tried.insert((act.run, act.sequence), clock.elapsed());
        }
    }
    match lifted {
        Ok(lifted) if lifted == Recovered::default() => {}
        Ok(lifted) => tracing::warn!(?lifted, "put back for a twin that hangs"),
        Err(error) => tracing::error!(%error, "nothing can be put back for a twin that hangs"),
    }
}
