//! `twin scenario`.

use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure, code};
use crate::cli::flags::scenario::Flags;
use crate::cli::interrupt::Interrupt;
use crate::cli::show::scenario::{dry_run, explain};
use crate::cli::show::scenarios;
use crate::cli::ui::no_document;
use crate::cli::{files, load};
use crate::report::scenario_text;
use crate::scenario::{Policy, Verdict};
use crate::service;

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), scenario = flags.name.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let (site, ui) = (&context.site, context.ui);
    let Some(name) = &flags.name else {
        let (entries, remarks) = load::all_scenarios();
        remarks.iter().for_each(|remark| ui.remark(remark));
        scenarios::list(ui, entries);
        return DONE;
    };
    if flags.events {
        no_document(ui, "scenario --events")?;
    }
    let loaded = load::scenario(name);
    files::remarks().iter().for_each(|remark| ui.remark(remark));
    let (scenario, source) = loaded?;
    flags.check(&scenario)?;
    if flags.explain {
        no_document(ui, "scenario --explain")?;
        explain(ui, &scenario, &source);
        return DONE;
    }
    let world = service::under_test(site, flags.seed, flags.dry_run).await?;
    let mut choice = flags.choice();
    let of_run = |error| Failure::of_run(error, &source);
    if flags.dry_run {
        no_document(ui, "scenario --dry-run")?;
        let journal = site.journal_if_there()?;
        let told = dry_run(ui, &scenario, &choice, &world, journal.as_ref()).await;
        return told.map_err(|error| of_run(error.into())).and(DONE);
    }
    if scenario.baseline != Policy::None {
        choice.self_test = service::tried(site, &world.found, true).await?;
    }
    let watch = ui.watch_run(flags.events);
    let halted = (site.layout().clone(), site.drivers().clock.clone());
    let interrupt = Interrupt::listen(Some(halted));
    let asked = interrupt.receiver().clone();
    let ran = service::run(site, &scenario, &choice, &world, watch.as_ref(), asked).await;
    let document = ran.map_err(of_run)?;
    if !flags.events {
        ui.text(&scenario_text(&document));
        ui.document(&document);
    }
    let interrupted = *interrupt.receiver().borrow() && document.verdict != Verdict::Dirty;
    Ok(if interrupted {
        code::INTERRUPTED
    } else {
        code::of(document.verdict)
    })
}
