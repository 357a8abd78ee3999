//! The watchdog: while the twin that started it lives it reverts faults that have expired; should that die, all it began.

use std::collections::HashMap;
use std::time::Duration;

use super::{ServiceError, Site, recover};
use crate::journal::{ActState, OpenAct};
use crate::lab::{LabError, Silent, choose};
use crate::scenario::{self, Recovered};

/// How often it looks for faults that have expired.
const LOOK: Duration = Duration::from_secs(1);

/// Between two tries, and how long it goes on trying once the other twin is dead.
const AGAIN: Duration = Duration::from_secs(5);
const PERSISTS: Duration = Duration::from_secs(3600);

/// What a living twin has to revert a fault itself, once that has expired.
const GRACE: Duration = Duration::from_secs(2);

/// When which act could last not be reverted, by the clock.
type Tried = HashMap<(String, i64), Duration>;

/// Watches over a run until `died` tells whether the twin that has it died; `to_work` is called before there is work.
pub async fn watch_over(
    site: &Site,
    died: impl Future<Output = bool>,
    to_work: fn(),
) -> Result<(), ServiceError> {
    let clock = &site.drivers().clock;
    let mut tried = Tried::default();
    tokio::pin!(died);
    loop {
        tokio::select! {
            died = &mut died => {
                if !died {
                    return Ok(());
                }
                break;
            }
            () = clock.sleep(LOOK) => revert_expired(site, &mut tried, to_work).await,
        }
    }
    // A disk that is full, or a libvirtd that is down, may not be so for long.
    let until = clock.elapsed() + PERSISTS;
    loop {
        match finish(site).await {
            Err(error) if clock.elapsed() < until => {
                tracing::warn!(why = %error, "nothing is put back so far");
                clock.sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// Finishes what a twin that died has left.
async fn finish(site: &Site) -> Result<(), ServiceError> {
    let labs = site.labs().await?;
    if let Err(LabError::NoLab { .. }) = choose(labs, site.named()) {
        // It was destroyed, and what was open with it.
        return Ok(());
    }
    let (found, _lock) = site.locked_lab_in_time("recover").await?;
    let recovery = recover(site, found, &Silent).await?;
    for run in &recovery.runs {
        let run_id = &run.run;
        for (step, done) in &run.undone {
            tracing::info!(run_id, step, done, "put back for a twin that died");
        }
        for (step, why) in &run.left {
            tracing::warn!(run_id, step, why, "not put back for a twin that died");
        }
    }
    if let Some(error) = recovery.failed {
        return Err(error.into());
    }
    for done in &recovery.finished.done {
        tracing::info!(done, "finished for a twin that died");
    }
    for left in &recovery.finished.left {
        tracing::warn!(left, "not finished for a twin that died");
    }
    if let Some(cleared) = recovery.cleared {
        let cleared = cleared?;
        for done in cleared.done {
            tracing::info!(done, "compared for a twin that died");
        }
        for difference in cleared.differences {
            tracing::warn!(difference, "compared for a twin that died");
        }
    }
    Ok(())
}

/// Reverts faults that have expired, where the twin that made them hangs.
async fn revert_expired(site: &Site, tried: &mut Tried, to_work: fn()) {
    let Ok(Some(journal)) = site.existing_journal() else {
        return;
    };
    let clock = &site.drivers().clock;
    // It is nearly always nothing, and then the hypervisor is not asked.
    let later = |act: &OpenAct| {
        let last = tried.get(&(act.run.clone(), act.sequence));
        last.is_some_and(|last| clock.elapsed() < *last + AGAIN)
    };
    let expired = journal.expired_acts(None, Duration::ZERO);
    if !expired.is_ok_and(|acts| acts.iter().any(|act| !later(act))) {
        return;
    }
    to_work();
    let Ok(found) = site.lab().await else {
        return;
    };
    let world = site.world(found);
    let reverted = scenario::lift_overdue(&world, &journal, GRACE, &later).await;
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
    match reverted {
        Ok(reverted) if reverted == Recovered::default() => {}
        Ok(reverted) => tracing::warn!(?reverted, "put back for a twin that hangs"),
        Err(error) => tracing::error!(%error, "nothing can be put back for a twin that hangs"),
    }
}
