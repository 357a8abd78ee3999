//! `twin up`.

use tracing::instrument;

use crate::cli::consent::ask;
use crate::cli::context::Context;
use crate::cli::dirty::{Does, say_dirty};
use crate::cli::failure::{DONE, Failure};
use crate::cli::files;
use crate::cli::flags::up::{Flags, Means, Wait};
use crate::cli::interrupt::interruptible;
use crate::cli::loss::by_up;
use crate::cli::show::up as show;
use crate::doctor::TimedProbe;
use crate::lab::{LabError, Request};
use crate::service::{follow, prepare};
use crate::topology;

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), topology = flags.topology))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let loaded = topology::load(&flags.topology, &files::topologies());
    files::remarks()
        .iter()
        .for_each(|remark| context.ui.remark(remark));
    let topology = loaded?.topology;
    let lab = context.lab_name()?;
    flags.scale()?;
    let name = lab.as_ref().unwrap_or(&topology.name).to_string();
    for stray in follow(&context.site, &name).await? {
        context.ui.remark(&stray);
    }
    let probe = TimedProbe::new(context.site.layout().accelerator_cache(), !flags.dry_run);
    let recipes = files::images();
    let rest = flags.words();
    let command = |lab: &str| context.command(lab, &rest);
    let request = flags.request(topology, lab, &Means::of(&command, &recipes, &probe))?;
    let (again, remove) = (command(&name), context.command(&name, &["destroy".into()]));
    let again = format!("`{again}` goes on where this stopped; `{remove}` removes what there is");
    interruptible(up(context, flags, request), || {
        Failure::interrupted("interrupted; what was made stays", vec![again])
    })
    .await
}

async fn up(context: &Context<'_>, flags: &Flags, request: Request<'_>) -> Result<u8, Failure> {
    let (site, ui, watch) = (&context.site, context.ui, context.ui.watch());
    let building = prepare(site, request, watch.as_ref()).await;
    files::remarks().iter().for_each(|remark| ui.remark(remark));
    let mut building = building?;
    // A dry run holds no lock: what another twin is at would look broken off.
    if let Some(found) = building.found.as_ref().filter(|_| !flags.dry_run) {
        say_dirty(context, found, Does::Boots)?;
    }
    let plan = &mut building.prepared.plan;
    if flags.wait == Wait::None {
        plan.steps.retain(crate::plan::Step::changes);
    }
    let goes = by_up(context, &building.prepared)?;
    building.prepared.plan.notes.extend(goes.iter().cloned());
    if flags.dry_run {
        return Ok(show::dry_run(ui, &building.prepared));
    }
    if !goes.is_empty() {
        building
            .unlocked(site, ask(context, flags.yes, &goes))
            .await?;
    }
    let plan = &building.prepared.plan;
    let (blocked, notes) = (plan.blocked.clone(), plan.notes.clone());
    let upped = building.build(site, flags.pace(), watch.as_ref()).await?;
    show::report(ui, &building.prepared, &upped, &notes);
    if blocked.is_empty() {
        return DONE;
    }
    Err(LabError::Blocked { blocked }.into())
}
