//! `twin report`.

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::flags::report::Flags;
use crate::cli::output::{open, write};
use crate::cli::ui::no_document;
use crate::report::{scenario_html, scenario_junit, scenario_text};
use crate::scenario::RunResult;
use crate::service::recorded;
use crate::storage;

pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let lab = context.global.lab.as_deref();
    let none = || {
        let what = match (&flags.run, lab) {
            (Some(id), _) => format!("there is no run {id}, or more than one begins so"),
            (None, Some(lab)) => format!("no run in a lab {lab} is on record"),
            (None, None) => "no run is on record".to_owned(),
        };
        Failure::usage(what, vec!["`twin runs` lists them".into()])
    };
    let found = recorded(&context.site, flags.run.as_deref(), lab).await?;
    let found = found.ok_or_else(none)?;
    if flags.events {
        no_document(context.ui, "report --events")?;
        let lines = found.events.iter().map(|event| format!("{event}\n"));
        return match &flags.output {
            Some(file) => write(file, &lines.collect::<String>()).and(DONE),
            None => {
                lines.for_each(|line| context.ui.bytes(line.as_bytes()));
                DONE
            }
        };
    }
    let document = found.result()?;
    if found.row.ended_at.is_none() {
        let what = format!("run {} has not come to its end", found.row.id);
        context.ui.remark(&what);
        let cure = "`twin recover` puts back what a run that was killed has left";
        context.ui.remark(cure);
    }
    if flags.open {
        return open_html(context, &document);
    }
    let text = if flags.html {
        no_document(context.ui, "report --html")?;
        scenario_html(&document)
    } else if flags.junit {
        no_document(context.ui, "report --junit")?;
        scenario_junit(&document)
    } else {
        scenario_text(&document)
    };
    match &flags.output {
        Some(file) => write(file, &text)?,
        None if flags.html || flags.junit => context.ui.bytes(text.as_bytes()),
        None => context.ui.text(&text),
    }
    context.ui.document(&document);
    DONE
}

fn open_html(context: &Context<'_>, document: &RunResult) -> Result<u8, Failure> {
    no_document(context.ui, "report --open")?;
    let reports = context.site.layout().state().join("reports");
    let file = reports.join(format!("{}.html", document.run));
    let written = storage::make_shared(&reports)
        .and_then(|()| storage::write_shared(&file, scenario_html(document).as_bytes()));
    written.map_err(|error| {
        let what = format!("{} cannot be written: {error}", file.display());
        Failure::machine(what, vec!["run as root, or with --output FILE".into()])
    })?;
    context.ui.text(&format!("{}\n", file.display()));
    open(&file)
}
