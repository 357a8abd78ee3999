//! `twin recover`.

use clap::Args;
use tracing::instrument;

use super::Context;
use crate::cli::failure::{Failure, code};
use crate::lab::Lock;
use crate::report::{RecoverDocument, RecoveredRun};
use crate::scenario::{self, World};
use crate::units::Seed;

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let found = context.lab().await?;
    let record = found.record.clone();
    let machine = context.drivers().hypervisor.machine().await?;
    let _lock = Lock::lab(machine.uuid, record.uuid, record.name.as_str(), "recover")
        .map_err(crate::lab::LabError::from)?;
    let journal = context.journal()?;
    let world = World {
        drivers: context.drivers().clone(),
        layout: context.layout.clone(),
        found,
        seed: Seed(0),
        run: String::new(),
    };
    let recovered = scenario::recover(&world, &journal).await?;
    let mut clean = true;
    for run in &recovered {
        for (step, done) in &run.undone {
            context
                .ui
                .text(&format!("run {}: {step}: {done}\n", run.run));
        }
        for (step, why) in &run.left {
            clean = false;
            context
                .ui
                .text(&format!("run {}: LEFT {step}: {why}\n", run.run));
        }
    }
    if recovered.is_empty() {
        context.ui.text("nothing is open\n");
    }
    let text = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(step, what)| format!("{step}: {what}"))
            .collect()
    };
    let runs = recovered.iter().map(|run| RecoveredRun {
        run: run.run.clone(),
        undone: text(&run.undone),
        left: text(&run.left),
    });
    context.ui.document(&RecoverDocument {
        schema: "twin/recover/v1".into(),
        runs: runs.collect(),
    });
    Ok(if clean { code::DONE } else { code::DIRTY })
}
