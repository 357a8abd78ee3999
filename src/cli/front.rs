//! The command that people start. It answers by itself what needs no machine: help, mistakes, `schema`, `completions`. For all
//! else it becomes `twin-host`, which links libvirt: loading that and what it needs takes longer than most answers.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::failure::Failure;
use super::flags::Verb;
use super::ui::Ui;
use super::verbs::{completions, schema};

/// The binary with the drivers.
const HOST: &str = "twin-host";

/// Where it is installed when it is not beside this one.
const ELSEWHERE: [&str; 2] = ["/usr/local/lib/twin", "/usr/lib/twin"];

/// Answers, or becomes `twin-host`.
pub fn front() -> ExitCode {
    let cli = match super::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let ui = Ui::new(&cli.global);
    // What becomes another program leaves the caller's umask to it.
    let outcome = match &cli.verb {
        Verb::Schema(flags) => schema::run(&ui, flags),
        Verb::Completions(flags) => completions::run(&ui, flags),
        _ => Err(become_host()),
    };
    ExitCode::from(outcome.unwrap_or_else(|failure| ui.failure(&failure)))
}

/// Replaces this process; returns only when that failed.
fn become_host() -> Failure {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(PathBuf::from);
    let looked: Vec<PathBuf> = beside
        .into_iter()
        .chain(ELSEWHERE.map(PathBuf::from))
        .map(|directory| directory.join(HOST))
        .collect();
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "twin".into());
    if let Some(path) = looked.iter().find(|path| path.is_file()) {
        let error = Command::new(path).arg0(&name).args(arguments).exec();
        return Failure::machine(
            format!("cannot run {}: {error}", path.display()),
            vec![
                "scripts/host-setup.sh installs libvirt, which it needs".into(),
                "`make build` makes it anew".into(),
            ],
        );
    }
    let looked: Vec<String> = looked
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Failure::machine(
        format!("{HOST} is not in {}", looked.join(", ")),
        vec![format!("`make build` makes it; install {HOST} beside twin")],
    )
}
