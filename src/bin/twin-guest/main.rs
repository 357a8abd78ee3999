//! twin-guest: twin's helper inside lab guests.
//!
//! It plays these parts, told by its first argument:
//!
//! ```text
//!  (process 1)  init    mounts, kernel modules, reaps; starts and restarts the agent
//!  agent        agent   network, disk, the channel to twin, services, nova-compute's records
//!  hold         holder  one service's or instance's process: its name, its memory, its ports
//!  connect      probe   one TCP connection, and how it went
//!  get          probe   one GET over HTTP, and its answer
//!  talk, dirty  load    numbered messages between hosts, writes to memory: what baselines are tried with
//! ```
//!
//! In the `micro` image it is process 1; in `debian` systemd starts `twin-guest agent`.

mod agent;
mod boot;
mod channel;
mod connect;
mod dirty;
mod exec;
mod get;
mod hold;
mod init;
mod keep;
mod kmsg;
mod nova;
mod procfs;
mod service;
mod shortage;
mod talk;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        _ if std::process::id() == 1 => init::run(),
        Some("agent") => {
            agent::run(arguments.get(1).map(String::as_str) == Some("--under-systemd"))
        }
        Some("hold") => hold::run(&arguments[1..]),
        Some("talk") => talk::run(&arguments[1..]),
        Some("dirty") => dirty::run(&arguments[1..]),
        Some("connect") => connect::run(&arguments[1..]),
        Some("get") => get::run(&arguments[1..]),
        _ => Err(
            "usage: twin-guest agent [--under-systemd] | hold .. | talk .. | dirty .. | connect .. | get .."
                .into(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            kmsg::say(&why);
            ExitCode::FAILURE
        }
    }
}

/// Writes one line to standard output.
fn say(line: &str) {
    use std::io::Write;
    // Ignored: the reader has gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}
