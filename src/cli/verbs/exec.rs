//! `twin exec`.

use std::io::{IsTerminal, Read};

use base64::Engine;
use clap::Args;
use tokio::sync::mpsc;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{Failure, code};
use crate::cli::interrupt::interruptible;
use crate::guest::{GuestError, Output, Program, collect};
use crate::hypervisor::Power;
use crate::lab::{Found, FoundHost, LabError};
use crate::report::{ExecDocument, ExecHost};
use crate::wire::CHUNK_BYTES;

/// A program on all hosts ends within this: one that hangs on one host must not hide the others' output for ever.
const ALL_DEADLINE: std::time::Duration = std::time::Duration::from_secs(3600);

/// How often it is looked whether the host still runs.
const POWER_LOOK: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The host.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) host: Option<String>,
    /// All hosts at once; standard input is empty there.
    #[arg(long)]
    pub(crate) all: bool,
    /// Leaves standard input alone.
    #[arg(long, short = 'n')]
    pub(crate) no_stdin: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    let found = context.site.lab().await?;
    let interrupted = || Failure::interrupted("interrupted; the program was killed", Vec::new());
    match &flags.host {
        Some(host) if !context.ui.json => {
            interruptible(stream(context, &found, host, flags), interrupted).await
        }
        Some(host) => {
            let host = found.host(host)?.clone();
            interruptible(gather(context, &found, vec![host], flags), interrupted).await
        }
        None => {
            interruptible(
                gather(context, &found, found.hosts.clone(), flags),
                interrupted,
            )
            .await
        }
    }
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code.clamp(0, 255)).unwrap_or(u8::MAX)
}

fn no_way(host: &FoundHost) -> LabError {
    LabError::Guest(GuestError::Unreachable {
        why: format!("the image of {} has no way in", host.name),
    })
}

/// Runs on one host with all streams joined up.
async fn stream(
    context: &Context<'_>,
    found: &Found,
    host: &str,
    flags: &Flags,
) -> Result<u8, Failure> {
    let host = found.host(host)?;
    let way = host
        .way(context.site.layout(), &found.networks)
        .ok_or_else(|| no_way(host))?;
    let guest = context.site.drivers().guests.open(&way);
    let (sender, mut receiver) = mpsc::channel(16);
    let stdin = if flags.no_stdin || std::io::stdin().is_terminal() {
        None
    } else {
        Some(standard_input())
    };
    let program = Program {
        argv: flags.command.clone(),
        stdin,
        output: sender,
    };
    let print = async {
        while let Some(output) = receiver.recv().await {
            match output {
                Output::Stdout(data) => context.ui.bytes(&data),
                Output::Stderr(data) => context.ui.error_bytes(&data),
            }
        }
    };
    let run = unless_stopped(context, found, host, guest.run(program));
    let (code, ()) = tokio::join!(run, print);
    Ok(exit_code(code?))
}

/// Works as long as the host runs: a guest that panics, or is paused or switched off, gives no answer any more.
async fn unless_stopped<T>(
    context: &Context<'_>,
    found: &Found,
    host: &FoundHost,
    work: impl Future<Output = Result<T, GuestError>>,
) -> Result<T, LabError> {
    let drivers = context.site.drivers();
    let target = host.target(found.record.uuid);
    let stopped = async {
        loop {
            drivers.clock.sleep(POWER_LOOK).await;
            match drivers.hypervisor.power_state(target).await {
                // What cannot be asked may run.
                Ok(Power::Running) | Err(_) => {}
                Ok(power) => return power,
            }
        }
    };
    tokio::select! {
        outcome = work => Ok(outcome?),
        power = stopped => Err(GuestError::Gone {
            what: format!("a program; {} is {power:?} now", host.name),
        }
        .into()),
    }
}

/// Reads standard input in a thread of its own: a read from it cannot be cancelled.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut piece = vec![0u8; CHUNK_BYTES];
        while let Ok(length @ 1..) = std::io::stdin().lock().read(&mut piece) {
            if sender.blocking_send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn text_of(bytes: Vec<u8>) -> (String, String) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, "utf-8".into()),
        Err(error) => (
            base64::engine::general_purpose::STANDARD.encode(error.as_bytes()),
            "base64".into(),
        ),
    }
}

/// Runs on several hosts side by side and prints each one's output whole.
async fn gather(
    context: &Context<'_>,
    found: &Found,
    hosts: Vec<FoundHost>,
    flags: &Flags,
) -> Result<u8, Failure> {
    let argv: Vec<&str> = flags.command.iter().map(String::as_str).collect();
    let one = |host: FoundHost| {
        let argv = argv.clone();
        async move {
            let outcome = match host.way(context.site.layout(), &found.networks) {
                Some(way) => {
                    let guest = context.site.drivers().guests.open(&way);
                    let run = collect(guest.as_ref(), &argv, ALL_DEADLINE);
                    unless_stopped(context, found, &host, run).await
                }
                None => Err(no_way(&host)),
            };
            let name = host.name.to_string();
            let (exit, out, err, error) = match outcome {
                Ok((exit, out, err)) => (Some(exit), out, err, None),
                Err(error) => (None, Vec::new(), Vec::new(), Some(error.to_string())),
            };
            let ((stdout, stdout_encoding), (stderr, stderr_encoding)) =
                (text_of(out), text_of(err));
            ExecHost {
                name,
                exit,
                stdout,
                stdout_encoding,
                stderr,
                stderr_encoding,
                error,
            }
        }
    };
    let mut results = futures::future::join_all(hosts.into_iter().map(one)).await;
    results.sort_by(|a, b| a.name.cmp(&b.name));
    for host in &results {
        let lines = |text: &str| {
            text.lines()
                .map(|line| format!("{}: {line}\n", host.name))
                .collect::<String>()
        };
        context.ui.text(&lines(&host.stdout));
        context.ui.remark(lines(&host.stderr).trim_end());
        if let Some(error) = &host.error {
            context.ui.remark(&format!("{}: {error}", host.name));
        }
    }
    let code = results
        .iter()
        .map(|host| host.exit.map_or(code::MACHINE, exit_code))
        .find(|code| *code != 0)
        .unwrap_or(code::DONE);
    context.ui.document(&ExecDocument {
        schema: "twin/exec/v1".into(),
        hosts: results,
    });
    Ok(code)
}
