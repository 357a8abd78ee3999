//! The command line.
//!
//! A verb is one file in `verbs/`: its flags, and what it does in terms of the library. Drivers are chosen in `wiring`,
//! everything is printed by `ui`, and every failure becomes a [`failure::Failure`] with one of the documented exit codes.

mod consent;
mod context;
mod dirty;
mod dispatch;
mod elapsed;
mod failure;
mod files;
mod flags;
mod global;
mod guard;
mod interrupt;
mod load;
mod logging;
mod loss;
mod output;
mod recovered;
mod remove;
mod show;
mod stdin;
mod terminal;
mod ui;
mod verbs;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

pub use flags::Cli;
pub use wiring::lab as drivers;

/// Parses the arguments. Help and mistakes are printed, and their exit code returned.
fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let code = if error.use_stderr() {
            failure::code::USAGE
        } else {
            failure::code::DONE
        };
        // Help goes to standard output, mistakes to standard error; a closed stream is no failure.
        let _ = error.print();
        ExitCode::from(code)
    })
}

/// Runs twin: parses the arguments, carries the verb out, prints, returns the exit code.
pub fn main() -> ExitCode {
    crate::storage::close_to_others();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let ui = ui::Ui::new(&cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = failure::Failure::machine(
                format!("cannot start: {error}"),
                vec!["see that processes and threads can be made".into()],
            );
            return ExitCode::from(ui.failure(&failure));
        }
    };
    let code = runtime.block_on(dispatch::run(cli, &ui));
    // Calls into libvirt that passed their deadline may still run in their threads; they end with the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}
