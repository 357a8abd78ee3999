//! `twin doctor`.

use clap::Args;
use tracing::instrument;

use super::Context;
use crate::cli::failure::{Failure, code};
use crate::doctor::{Examination, Health, TimedProbe, examine};
use crate::report::DoctorDocument;

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all)]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let drivers = context.drivers();
    let probe = TimedProbe::new(context.layout.accelerator_cache(), true);
    let examination = Examination {
        hypervisor: drivers.hypervisor.as_ref(),
        hostnet: drivers.hostnet.as_ref(),
        layout: &context.layout,
        probe: &probe,
    };
    let lines = examine(&examination).await;
    for line in &lines {
        let (word, good) = match line.state {
            Health::Ok => ("ok      ", Some(true)),
            Health::Degraded => ("degraded", None),
            Health::Missing => ("missing ", Some(false)),
        };
        context.ui.text(&format!(
            "{}  {:<14}  {}\n",
            context.ui.health(word, good),
            line.id,
            line.detail
        ));
        if let Some(cure) = &line.cure {
            context.ui.text(&format!("{:>26}  cure: {cure}\n", ""));
        }
    }
    let worst = lines
        .iter()
        .map(|line| line.state)
        .max()
        .unwrap_or(Health::Ok);
    context.ui.document(&DoctorDocument {
        schema: "twin/doctor/v1".into(),
        lines,
    });
    Ok(if worst == Health::Missing {
        code::MACHINE
    } else {
        code::DONE
    })
}
