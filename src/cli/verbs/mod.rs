//! One file a verb.

pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod cp;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod exec;
pub(crate) mod power;
pub(crate) mod recover;
pub(crate) mod release;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod scenario;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod up;

use super::failure::{Failure, code};
use super::flags::{Cli, Global, Verb};
use super::ui::Ui;
use super::{logging, wiring};
use crate::journal::Journal;
use crate::lab::{Drivers, Found, Layout, choose, find_all};

/// What every verb is given.
pub(crate) struct Context<'c> {
    pub(crate) global: &'c Global,
    pub(crate) ui: &'c Ui,
    pub(crate) layout: Layout,
    drivers: std::sync::OnceLock<Drivers>,
}

impl Context<'_> {
    /// The drivers; made when first asked for, so that verbs that need none start at once.
    pub(crate) fn drivers(&self) -> &Drivers {
        self.drivers
            .get_or_init(|| wiring::lab(&self.global.connect))
    }

    /// Opens the journal.
    pub(crate) fn journal(&self) -> Result<Journal, Failure> {
        Ok(Journal::open(self.layout.state())?)
    }

    /// Opens the journal where there is one: for verbs that must not make it.
    pub(crate) fn journal_if_there(&self) -> Option<Journal> {
        if !self.layout.state().join("journal.sqlite").exists() {
            return None;
        }
        Journal::open(self.layout.state()).ok()
    }

    /// Finds the lab that the verb is about.
    pub(crate) async fn lab(&self) -> Result<Found, Failure> {
        let labs = find_all(self.drivers(), &self.layout).await?;
        Ok(choose(labs, self.global.lab.as_deref())?)
    }

    /// Refuses `--json` for a verb that has no document.
    pub(crate) fn no_document(&self, verb: &str) -> Result<(), Failure> {
        if self.ui.json {
            return Err(Failure::usage(
                format!("{verb} has no JSON document"),
                vec!["leave --json out".into()],
            ));
        }
        Ok(())
    }
}

/// Carries a verb out; returns the exit code.
pub(crate) async fn run(cli: Cli, ui: &Ui) -> u8 {
    let context = Context {
        global: &cli.global,
        ui,
        layout: Layout::new(cli.global.state_dir.clone()),
        drivers: std::sync::OnceLock::new(),
    };
    if let Some(name) = logged(&cli.verb) {
        logging::start(context.layout.state(), name);
    }
    let outcome = match &cli.verb {
        Verb::Doctor(flags) => doctor::run(&context, flags).await,
        Verb::Up(flags) => up::run(&context, flags).await,
        Verb::Status(flags) => status::run(&context, flags).await,
        Verb::Exec(flags) => exec::run(&context, flags).await,
        Verb::Cp(flags) => cp::run(&context, flags).await,
        Verb::Console(flags) => console::run(&context, flags).await,
        Verb::Power(flags) => power::run(&context, flags).await,
        Verb::Down(flags) => down::run(&context, flags).await,
        Verb::Destroy(flags) => destroy::run(&context, flags).await,
        Verb::Release(flags) => release::run(&context, flags).await,
        Verb::Scenario(flags) => scenario::run(&context, flags).await,
        Verb::Runs(flags) => runs::run(&context, flags).await,
        Verb::Report(flags) => report::run(&context, flags),
        Verb::Recover(flags) => recover::run(&context, flags).await,
        Verb::Schema(flags) => schema::run(&context, flags),
        Verb::Completions(flags) => completions::run(&context, flags),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            tracing::error!(code = failure.code, "{}", failure.message);
            ui.failure(&failure)
        }
    }
}

/// The verbs that leave a log: those that change something.
fn logged(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Up(flags) if flags.dry_run => None,
        Verb::Up(_) => Some("up"),
        Verb::Power(_) => Some("power"),
        Verb::Down(_) => Some("down"),
        Verb::Destroy(_) => Some("destroy"),
        Verb::Release(_) => Some("release"),
        Verb::Scenario(flags) if flags.changes_something() => Some("scenario"),
        Verb::Recover(_) => Some("recover"),
        _ => None,
    }
}

/// Runs `work` until it ends or the user interrupts.
pub(crate) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
    on_interrupt: impl FnOnce() -> Failure,
) -> Result<T, Failure> {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(on_interrupt()),
        () = terminate => Err(on_interrupt()),
    }
}

/// Milliseconds of a duration.
pub(crate) fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Done.
pub(crate) const DONE: Result<u8, Failure> = Ok(code::DONE);
