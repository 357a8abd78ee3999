//! `twin halt`.

use std::time::Duration;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::elapsed::milliseconds;
use crate::cli::failure::{DONE, Failure};
use crate::lab::{Lock, LockError};
use crate::report::HaltDocument;

/// A run that is halted has put back what needs no boot within this.
const ENDS: Duration = Duration::from_secs(300);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Lets runs begin again.
    #[arg(long)]
    pub(crate) lift: bool,
}

pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let clock = context.drivers().clock.as_ref();
    let started = clock.elapsed();
    let failed = |error: std::io::Error| {
        let cure = "run as root, or with a --state-dir of your own".to_owned();
        Failure::machine(format!("the halt cannot be written: {error}"), vec![cure])
    };
    // A run sees the halt in the state directory that its lab's marks name.
    let layouts = context.all_layouts().await;
    if flags.lift {
        let mut was = false;
        for layout in &layouts {
            was |= layout.lift_halt().map_err(failed)?;
        }
        context.ui.text(if was {
            "runs can begin again\n"
        } else {
            "runs were not halted\n"
        });
        return tell(context, false, Vec::new(), started);
    }
    let since = format!(
        "{} by process {}",
        clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        std::process::id()
    );
    for layout in &layouts {
        layout.halt(&since).map_err(failed)?;
    }
    context
        .ui
        .text("new runs are refused; `twin halt --lift` lets them begin again\n");
    let ended = ended(context).await?;
    for run in &ended {
        context.ui.text(&format!("ended: {run}\n"));
    }
    tell(context, true, ended, started)
}

/// Waits until no scenario has a lab's lock any more; tells which did.
async fn ended(context: &Context<'_>) -> Result<Vec<String>, Failure> {
    let mut ended = Vec::new();
    for found in context.labs().await? {
        let record = &found.record;
        let clock = context.drivers().clock.as_ref();
        let until = clock.elapsed() + ENDS;
        let mut said: Option<String> = None;
        loop {
            match Lock::lab(record.uuid, record.name.as_str(), "halt", clock) {
                Err(LockError::Held { what, holder }) if holder.contains("`twin scenario`") => {
                    if clock.elapsed() >= until {
                        let cure = "Ctrl-C in its terminal, then `twin recover`".to_owned();
                        let what = format!("{holder} has not ended: {what} is still being changed");
                        return Err(Failure::dirty(what, vec![cure]));
                    }
                    said = Some(format!("{holder} in lab {}", record.name));
                    clock.sleep(LOOK).await;
                }
                // Free, or held by a verb that is no run.
                _ => break,
            }
        }
        ended.extend(said);
    }
    Ok(ended)
}

fn tell(
    context: &Context<'_>,
    halted: bool,
    ended: Vec<String>,
    started: Duration,
) -> Result<u8, Failure> {
    context.ui.document(&HaltDocument {
        schema: "twin/halt/v1".into(),
        halted,
        ended,
        took_ms: milliseconds(context.drivers().clock.elapsed().saturating_sub(started)),
    });
    DONE
}
