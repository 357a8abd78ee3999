//! The only printing.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comfy_table::{Attribute, Cell, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;

use super::failure::Failure;
use super::global::{Color, Global};
use crate::diagnostics::{place, render};
use crate::lab::{Event, Watch};
use crate::report::{ErrorDocument, FindingDocument, progress};
use crate::scenario::{RunEvent, RunWatch};

/// Prints.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    pub(crate) json: bool,
    color: bool,
    error_color: bool,
    /// Whether progress bars can be drawn.
    bars: bool,
}

impl Ui {
    /// Decides how to print.
    pub(crate) fn new(global: &Global) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let wanted = |terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !plain,
        };
        let terminal = std::io::stderr().is_terminal();
        Self {
            json: global.json,
            color: wanted(std::io::stdout().is_terminal()),
            error_color: wanted(terminal),
            // A log would run through them.
            bars: terminal && !global.json && global.verbose == 0,
        }
    }

    /// Prints text to standard output; that its reader has gone is no failure.
    pub(crate) fn text(&self, text: &str) {
        if !self.json {
            self.bytes(text.as_bytes());
        }
    }

    /// Prints bytes to standard output as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints bytes to standard error as they are.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints a remark to standard error.
    pub(crate) fn remark(&self, text: &str) {
        if !self.json {
            self.error_bytes(format!("{text}\n").as_bytes());
        }
    }

    /// Prints the document where JSON was asked for.
    pub(crate) fn document(&self, document: &impl Serialize) {
        if self.json {
            let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
            text.push('\n');
            self.bytes(text.as_bytes());
        }
    }

    /// Prints a failure; returns its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> u8 {
        if self.json {
            self.document(&error_document(failure));
            return failure.code;
        }
        let mut text = render(&failure.problems, &failure.sources, self.error_color);
        let word = if self.error_color {
            "error".red().bold().to_string()
        } else {
            "error".to_owned()
        };
        for (index, line) in failure.message.lines().enumerate() {
            text.push_str(&if index == 0 {
                format!("{word}: {line}\n")
            } else {
                format!("       {line}\n")
            });
        }
        for cure in &failure.cures {
            let word = if self.error_color {
                "cure".green().to_string()
            } else {
                "cure".to_owned()
            };
            text.push_str(&format!(" {word}: {cure}\n"));
        }
        self.error_bytes(text.as_bytes());
        failure.code
    }

    /// Prints a table to standard output.
    pub(crate) fn table(&self, heads: &[&str], rows: &[Vec<String>]) {
        if self.json {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let head = |head: &&str| {
            let cell = Cell::new(head);
            if self.color {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        };
        table.set_header(heads.iter().map(head));
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if self.color {
            table.enforce_styling();
        }
        self.text(&format!("{}\n", table.trim_fmt()));
    }

    /// Colours a word by how good it is, where colours are wanted.
    pub(crate) fn health(&self, word: &str, good: Option<bool>) -> String {
        match (self.color, good) {
            (true, Some(true)) => word.green().to_string(),
            (true, Some(false)) => word.red().to_string(),
            (true, None) => word.yellow().to_string(),
            (false, _) => word.to_owned(),
        }
    }

    /// Clears the terminal for the next picture of a watch.
    pub(crate) fn clear(&self) {
        if self.color {
            self.text("\x1b[H\x1b[2J");
        }
    }

    /// Makes a watch that shows what a lab's verb is at.
    pub(crate) fn watch(&self) -> Arc<dyn Watch> {
        Arc::new(Progress::new(self))
    }

    /// Makes a watch that shows what a run is at. With `events` it writes them, as JSON lines, to standard output.
    pub(crate) fn watch_run(&self, events: bool) -> Arc<dyn RunWatch> {
        Arc::new(RunProgress {
            progress: Progress::new(self),
            events,
        })
    }

    /// Prints an event as a line of JSON to standard output.
    pub(crate) fn event(&self, event: &RunEvent) {
        let mut line = serde_json::to_string(event).unwrap_or_default();
        line.push('\n');
        self.bytes(line.as_bytes());
    }
}

fn error_document(failure: &Failure) -> ErrorDocument {
    let findings = failure.problems.iter().map(|problem| {
        let place = place(problem, &failure.sources);
        FindingDocument {
            rule: problem.code.to_owned(),
            path: place.path,
            line: place.line,
            column: place.column,
            message: problem.message.clone(),
            cure: problem.cure.clone(),
        }
    });
    ErrorDocument {
        schema: "twin/error/v1".into(),
        error: failure.message.clone(),
        cures: failure.cures.clone(),
        exit: failure.code,
        findings: findings.collect(),
    }
}

/// Progress: a bar a host on a terminal, plain lines elsewhere, nothing beside JSON.
struct Progress {
    ui: Ui,
    bars: MultiProgress,
    hosts: Mutex<HashMap<String, ProgressBar>>,
}

impl Progress {
    fn new(ui: &Ui) -> Self {
        Self {
            ui: ui.clone(),
            bars: MultiProgress::new(),
            hosts: Mutex::default(),
        }
    }

    fn bar(&self, host: &str) -> ProgressBar {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts
            .entry(host.to_owned())
            .or_insert_with(|| {
                let style = ProgressStyle::with_template("{spinner} {prefix:<14} {msg} {elapsed}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = self.bars.add(
                    ProgressBar::new_spinner()
                        .with_style(style)
                        .with_prefix(host.to_owned()),
                );
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            })
            .clone()
    }
}

impl Watch for Progress {
    fn tell(&self, event: Event<'_>) {
        if self.ui.json {
            return;
        }
        match event {
            Event::Started {
                host: Some(host),
                what,
                ..
            } if self.ui.bars => self.bar(host).set_message(what.to_owned()),
            Event::Done {
                host: Some(host),
                id,
            } if self.ui.bars => {
                if id.ends_with("/answer") || !id.contains('/') {
                    self.bar(host).finish_with_message("done");
                }
            }
            Event::Started { host, what, .. } => {
                let line = host.map_or_else(|| what.to_owned(), |host| format!("{host}: {what}"));
                self.ui.remark(&line);
            }
            Event::Done {
                host: Some(host),
                id,
            } if id.ends_with("/answer") => self.ui.remark(&format!("{host}: answers")),
            Event::Done { .. } => {}
            Event::Note(note) => self.ui.remark(note),
        }
    }
}

/// The progress of a run.
struct RunProgress {
    progress: Progress,
    /// Whether events are written as they are.
    events: bool,
}

impl Watch for RunProgress {
    fn tell(&self, event: Event<'_>) {
        self.progress.tell(event);
    }
}

impl RunWatch for RunProgress {
    fn happened(&self, event: &RunEvent) {
        let ui = &self.progress.ui;
        if self.events {
            ui.event(event);
        }
        if !ui.json {
            for line in progress(event) {
                ui.remark(&line);
            }
        }
    }
}

/// Refuses `--json` for a verb that has no document.
pub(crate) fn no_document(ui: &Ui, verb: &str) -> Result<(), Failure> {
    if ui.json {
        return Err(Failure::usage(
            format!("{verb} has no JSON document"),
            vec!["leave --json out".into()],
        ));
    }
    Ok(())
}
