//! From a verb's flags to what it does.

use clap::CommandFactory;

use super::context::{Context, this_command_as_root};
use super::failure::Failure;
use super::flags::{Cli, Verb};
use super::logging;
use super::ui::Ui;
use super::verbs::{
    completions, console, cp, destroy, doctor, down, exec, halt, power, recover, release, report,
    restore, runs, scenario, schema, snapshot, snapshots, status, up,
};

/// Carries a verb out; returns the exit code.
pub(crate) async fn run(cli: Cli, ui: &Ui) -> u8 {
    let context = Context::new(&cli.global, ui);
    if let Some(failure) = needs_root(&cli.verb) {
        return ui.failure(&failure);
    }
    logging::start(logged(&cli.verb), cli.global.verbose);
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
        Verb::Snapshot(flags) => snapshot::run(&context, flags).await,
        Verb::Snapshots(flags) => snapshots::run(&context, flags).await,
        Verb::Restore(flags) => restore::run(&context, flags).await,
        Verb::Scenario(flags) => scenario::run(&context, flags).await,
        Verb::Runs(flags) => runs::run(&context, flags).await,
        Verb::Report(flags) => report::run(&context, flags).await,
        Verb::Recover(flags) => recover::run(&context, flags).await,
        Verb::Halt(flags) => halt::run(&context, flags).await,
        Verb::Schema(flags) => schema::run(ui, flags),
        Verb::Completions(flags) => completions::run(ui, flags, Cli::command()),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            tracing::error!(code = failure.code, "{}", failure.message);
            // Nothing is made for a lab that was not found.
            if context.site.layout().state().exists() {
                logging::begin(context.site.layout().state());
            }
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
        Verb::Down(flags) if flags.consent.dry_run => None,
        Verb::Down(_) => Some("down"),
        Verb::Destroy(flags) if flags.consent.dry_run => None,
        Verb::Destroy(_) => Some("destroy"),
        Verb::Release(flags) if flags.consent.dry_run => None,
        Verb::Release(_) => Some("release"),
        Verb::Snapshot(flags) if flags.changes_something() => Some("snapshot"),
        Verb::Restore(flags) if flags.consent.dry_run => None,
        Verb::Restore(_) => Some("restore"),
        Verb::Scenario(flags) if flags.changes_something() => Some("scenario"),
        Verb::Recover(_) => Some("recover"),
        _ => None,
    }
}

/// Refuses what only root can do, before anything is done: bridges are marked and rules made, disks are QEMU's to open, and
/// the guests' sockets and consoles are root's. Members of the group libvirt can look.
fn needs_root(verb: &Verb) -> Option<Failure> {
    let into_guests = matches!(verb, Verb::Exec(_) | Verb::Cp(_) | Verb::Console(_));
    let acts = logged(verb).is_some() || into_guests;
    if !acts || nix::unistd::geteuid().is_root() {
        return None;
    }
    Some(Failure::machine(
        "no permission: this changes bridges, rules, disks and guests, which only root may",
        vec![format!("run as root: `{}`", this_command_as_root())],
    ))
}
