//! `twin doctor`.

use clap::Args;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{Failure, code};
use crate::doctor::Health;
use crate::report::DoctorDocument;
use crate::service;

#[derive(Debug, Args)]
pub(crate) struct Flags {}

#[instrument(skip_all)]
pub(crate) async fn run(context: &Context<'_>, _: &Flags) -> Result<u8, Failure> {
    let lines = service::doctor(&context.site).await;
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
