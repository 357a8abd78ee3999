//! What of a lab is not reverted, before a verb acts on it.

use uuid::Uuid;

use super::context::Context;
use super::failure::Failure;
use crate::journal::Journal;
use crate::lab::{Found, Silent};
use crate::scenario;
use crate::snapshot::{self as baselines, Set};

/// What of a lab is not put back, in words. Called with its lock held.
pub(crate) fn dirty(set: &Set<'_>) -> Result<Vec<String>, Failure> {
    let mut dirty = baselines::unfinished(set.journal, set.found.record.uuid)?;
    let acts = set.journal.open_acts(set.found.record.uuid)?;
    dirty.extend(acts.iter().map(|act| {
        let why = act.why_left.as_deref();
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        format!("{} of run {} is not put back{why}", act.step, act.run)
    }));
    Ok(dirty)
}

/// What losing the disks of hosts takes with it, in words.
pub(crate) fn lost_with_disks(
    context: &Context<'_>,
    lab: Uuid,
    hosts: &[&str],
) -> Result<Vec<String>, Failure> {
    let lost = baselines::that_need(context.site.layout(), lab, hosts)?;
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
    let Some(journal) = context.site.journal_if_there()? else {
        return Ok(());
    };
    let set = context.site.set(found, &journal, &Silent);
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
        .filter(|act| scenario::fault::puts_disks_aside(&act.action, &act.undo))
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

/// Puts back what runs have done to this machine: the hosts are put back by the baseline, and that is not in it.
pub(crate) async fn recover_outside(
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
