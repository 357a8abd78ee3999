//! `twin report`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::ui::no_document;
use crate::journal::{Journal, RunRow};
use crate::report::{scenario_html, scenario_junit, scenario_text};
use crate::scenario::{RunEvent, RunResult};
use crate::storage;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The run; when not given, the last one of the lab that `--lab` names, or of all labs.
    pub(crate) run: Option<String>,
    /// As one HTML file that needs nothing else.
    #[arg(long, conflicts_with = "junit")]
    pub(crate) html: bool,
    /// As `JUnit` XML.
    #[arg(long)]
    pub(crate) junit: bool,
    /// As its events, a line of JSON each.
    #[arg(long, conflicts_with_all = ["html", "junit", "open"])]
    pub(crate) events: bool,
    /// Writes to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Writes the HTML file below the state directory and opens it.
    #[arg(long, conflicts_with_all = ["junit", "output"])]
    pub(crate) open: bool,
}

pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let none = || {
        let what = match (&flags.run, &context.global.lab) {
            (Some(id), _) => format!("there is no run {id}, or more than one begins so"),
            (None, Some(lab)) => format!("no run in a lab {lab} is on record"),
            (None, None) => "no run is on record".to_owned(),
        };
        Failure::usage(what, vec!["`twin runs` lists them".into()])
    };
    let (row, events) = chosen(context, flags).await?.ok_or_else(none)?;
    if flags.events {
        no_document(context.ui, "report --events")?;
        let lines = events.iter().map(|event| format!("{event}\n"));
        return match &flags.output {
            Some(file) => write(file, &lines.collect::<String>()).and(DONE),
            None => {
                lines.for_each(|line| context.ui.bytes(line.as_bytes()));
                DONE
            }
        };
    }
    let document = result(&row, &events)?;
    if row.ended_at.is_none() {
        let what = format!("run {} has not come to its end", row.id);
        context.ui.remark(&what);
        context
            .ui
            .remark("`twin recover` puts back what a run that was killed has left");
    }
    if flags.open {
        no_document(context.ui, "report --open")?;
        let reports = context.site.layout().state().join("reports");
        let file = reports.join(format!("{}.html", document.run));
        storage::make_shared(&reports)
            .and_then(|()| storage::write_shared(&file, scenario_html(&document).as_bytes()))
            .map_err(|error| {
                let what = format!("{} cannot be written: {error}", file.display());
                Failure::machine(what, vec!["run as root, or with --output FILE".into()])
            })?;
        context.ui.text(&format!("{}\n", file.display()));
        return open(&file);
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

/// What came of a run, from its events; runs of earlier twins have a document.
fn result(row: &RunRow, events: &[String]) -> Result<RunResult, Failure> {
    let unreadable = |why: String| {
        Failure::machine(
            format!("what is on record of run {} cannot be read: {why}", row.id),
            vec!["use the twin that wrote it".into()],
        )
    };
    if let Some(text) = &row.document {
        return serde_json::from_str(text).map_err(|error| unreadable(error.to_string()));
    }
    if events.is_empty() {
        return Err(Failure::usage(
            format!("run {} has not come to its end", row.id),
            vec!["`twin recover` puts back what it left".into()],
        ));
    }
    let read = |text: &String| serde_json::from_str(text);
    let events: Result<Vec<RunEvent>, _> = events.iter().map(read).collect();
    let events = events.map_err(|error| unreadable(error.to_string()))?;
    RunResult::of(events).ok_or_else(|| unreadable("it does not begin with its begin".into()))
}

/// The run that is asked for and its events, in the state directories of all labs.
async fn chosen(
    context: &Context<'_>,
    flags: &Flags,
) -> Result<Option<(RunRow, Vec<String>)>, Failure> {
    let mut rows = Vec::new();
    for layout in context.site.all_layouts().await {
        let Some(journal) = Journal::look(layout.state(), &context.site.drivers().clock)? else {
            continue;
        };
        let row = match &flags.run {
            Some(id) => journal.run_beginning(id)?,
            None => {
                let lab = context.global.lab.as_deref();
                journal.runs(lab)?.into_iter().next()
            }
        };
        if let Some(row) = row {
            let events = journal.events(&row.id)?;
            rows.push((row, events));
        }
    }
    rows.sort_by(|(a, _), (b, _)| b.started_at.cmp(&a.started_at));
    Ok(rows.into_iter().next())
}

fn write(file: &std::path::Path, text: &str) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        if let Some(parent) = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            std::fs::create_dir_all(parent)?;
        }
        let new = !file.exists();
        std::fs::write(file, text)?;
        if new {
            let mode = storage::for_the_caller(0o666);
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    write().map_err(|error| {
        let cure = "give --output a file in a directory of your own".to_owned();
        Failure::machine(
            format!("{} cannot be written: {error}", file.display()),
            vec![cure],
        )
    })
}

/// Has the desktop open a file.
fn open(file: &std::path::Path) -> Result<u8, Failure> {
    let opened = std::process::Command::new("xdg-open")
        .arg(file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    match opened {
        Ok(status) if status.success() => DONE,
        other => {
            let why = other.map_or_else(|error| error.to_string(), |status| status.to_string());
            let cure = format!("open {} in a browser", file.display());
            Err(Failure::machine(
                format!("xdg-open did not open it: {why}"),
                vec![cure],
            ))
        }
    }
}
