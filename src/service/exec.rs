//! Programs in hosts.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{ServiceError, Site};
use crate::guest::{GuestError, Output, Program, collect};
use crate::hypervisor::Power;
use crate::lab::{Found, FoundHost, LabError};

/// A program on several hosts ends within this: one that hangs on one host must not hide the others' output for ever.
const DEADLINE: Duration = Duration::from_secs(3600);

/// How often it is looked whether the host still runs.
const POWER_LOOK: Duration = Duration::from_secs(2);

/// How a program in one of several hosts ended.
#[derive(Debug)]
pub struct Ran {
    /// The host.
    pub host: String,
    /// The exit code; nothing where the program has none.
    pub exit: Option<i32>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it wrote of errors.
    pub stderr: Vec<u8>,
    /// Why it has no exit code.
    pub error: Option<String>,
}

/// Runs a program in a host with its streams joined up; returns its exit code.
pub async fn stream(
    site: &Site,
    found: &Found,
    host: &str,
    (argv, stdin): (Vec<String>, Option<mpsc::Receiver<Vec<u8>>>),
    take: &mut (dyn FnMut(Output) + Send),
) -> Result<i32, ServiceError> {
    let host = found.host(host)?;
    let guest = site.guest(found, host)?;
    let (output, mut receiver) = mpsc::channel(16);
    let program = Program {
        argv,
        stdin,
        output,
    };
    let print = async {
        while let Some(output) = receiver.recv().await {
            take(output);
        }
    };
    let run = unless_stopped(site, found, host, guest.run(program));
    let (code, ()) = tokio::join!(run, print);
    Ok(code?)
}

/// Works as long as the host runs: a guest that panics, or is paused or switched off, gives no answer any more.
async fn unless_stopped<T>(
    site: &Site,
    found: &Found,
    host: &FoundHost,
    work: impl Future<Output = Result<T, GuestError>>,
) -> Result<T, LabError> {
    let drivers = site.drivers();
    let target = host.target(found.record.uuid);
    let stopped = async {
        loop {
            drivers.clock.sleep(POWER_LOOK).await;
            match drivers.hypervisor.domain.power_state(target).await {
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

async fn ran(site: &Site, found: &Found, host: &FoundHost, argv: &[&str]) -> Ran {
    let outcome = match site.guest(found, host) {
        Ok(guest) => {
            let run = collect(guest.as_ref(), argv, DEADLINE);
            unless_stopped(site, found, host, run).await
        }
        Err(error) => Err(error),
    };
    let (exit, stdout, stderr, error) = match outcome {
        Ok((exit, stdout, stderr)) => (Some(exit), stdout, stderr, None),
        Err(error) => (None, Vec::new(), Vec::new(), Some(error.to_string())),
    };
    Ran {
        host: host.name.to_string(),
        exit,
        stdout,
        stderr,
        error,
    }
}

/// Runs a program in hosts side by side, without input; returns how it went, sorted by host.
pub async fn gather(site: &Site, found: &Found, hosts: &[FoundHost], argv: &[String]) -> Vec<Ran> {
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let one = |host| ran(site, found, host, &argv);
    let mut results = futures::future::join_all(hosts.iter().map(one)).await;
    results.sort_by(|one, other| one.host.cmp(&other.host));
    results
}
