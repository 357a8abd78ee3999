//! `twin halt`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{DONE, Failure};
use crate::report::HaltDocument;
use crate::service;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Lets runs begin again.
    #[arg(long)]
    pub(crate) lift: bool,
}

pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let (site, ui) = (&context.site, context.ui);
    let started = site.drivers().clock.elapsed();
    let mut ended = Vec::new();
    if flags.lift {
        ui.text(if service::lift_halt(site).await? {
            "runs can begin again\n"
        } else {
            "runs were not halted\n"
        });
    } else {
        let halted = service::halt(site).await?;
        ui.text("new runs are refused; `twin halt --lift` lets them begin again\n");
        ended = halted.ended(site).await?;
        for run in &ended {
            ui.text(&format!("ended: {run}\n"));
        }
    }
    ui.document(&HaltDocument {
        schema: "twin/halt/v1".into(),
        halted: !flags.lift,
        ended,
        took_ms: milliseconds(site.since(started)),
    });
    DONE
}
