//! Packets as tcpdump sees them on a link.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Captured, HostNetError, PacketCapture};
use crate::tools::{self, Limits};

/// It ends by itself after so many packets.
const MOST_PACKETS: &str = "200";

/// Runs a program until its own input ends: that is when the capture is dropped, and when twin dies, however it does. The
/// program's output ends when the program does: the shell has closed its own.
const UNTIL_DROPPED: &str = "\"$@\" & exec >&- 2>&-; read -r _; kill $!; wait";

/// It listens within this.
const LISTENS: Duration = Duration::from_secs(10);

/// A capture that goes on until it is dropped.
#[derive(Debug)]
struct Tcpdump {
    /// Its input is what it goes on for.
    _process: Child,
    seen: Arc<Mutex<Captured>>,
}

impl PacketCapture for Tcpdump {
    fn captured(&self) -> Captured {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

fn failed(why: impl Into<String>) -> HostNetError {
    HostNetError::Failed {
        what: "tcpdump".into(),
        why: why.into(),
    }
}

/// What reading packets may take. A capture may go on for hours.
const LIMITS: Limits = Limits {
    memory: 1 << 30,
    cpu_s: 86_400,
};

/// The user that packets are read as, where the distribution has made one.
const USER: &str = "tcpdump";

/// The flags that make tcpdump another user's.
fn as_user() -> Vec<&'static str> {
    let there = nix::unistd::User::from_name(USER).ok().flatten().is_some();
    if there { vec!["-Z", USER] } else { Vec::new() }
}

/// Refuses a filter that is none, before anything listens: it is text from a scenario.
async fn compiles(link: &str, filter: &str) -> Result<(), HostNetError> {
    if filter.trim_start().starts_with('-') {
        return Err(failed(format!(
            "{filter:?} is no filter: it begins with a dash"
        )));
    }
    let (start, mut words) = tools::limited("tcpdump", Limits::IMAGE, None);
    words.extend(["-i", link, "-d"].map(Into::into));
    words.extend(as_user().into_iter().map(Into::into));
    words.extend(["--", filter].map(Into::into));
    let compiling = Command::new(start)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LISTENS, compiling).await;
    let output = output
        .map_err(|_| failed(format!("the filter is not compiled within {LISTENS:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .trim()
        .lines()
        .next_back()
        .unwrap_or_default()
        .to_owned();
    let cure = if last.contains("No such file") {
        "; scripts/host-setup.sh installs it"
    } else {
        ""
    };
    Err(failed(format!("{last}{cure}")))
}

/// Starts one; it listens when this returns.
pub(super) async fn start(
    link: &str,
    filter: &str,
) -> Result<Box<dyn PacketCapture>, HostNetError> {
    compiles(link, filter).await?;
    let (limited, words) = tools::limited("tcpdump", LIMITS, None);
    let mut process = Command::new("sh")
        .args(["-c", UNTIL_DROPPED, "sh", limited])
        .args(words)
        .args(["-i", link, "-n", "-l", "-tt"])
        // Once it has its socket it is no longer root.
        .args(as_user())
        // What comes from a file is a filter, whatever it begins with.
        .args(["-c", MOST_PACKETS, "--", filter])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C at a terminal is for twin.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let seen = Arc::new(Mutex::new(Captured::default()));
    if let Some(stdout) = process.stdout.take() {
        let seen = Arc::clone(&seen);
        let held = move |change: &mut dyn FnMut(&mut Captured)| {
            change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
        };
        tokio::spawn(async move {
            let mut from = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = from.next_line().await {
                held(&mut |seen| seen.packets.push(line.clone()));
            }
            held(&mut |seen| seen.ended = true);
        });
    }
    // It says on its errors' stream when it listens, or why it cannot.
    if let Some(stderr) = process.stderr.take() {
        let mut from = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let listening = tokio::time::timeout(LISTENS, async {
            while let Ok(Some(line)) = from.next_line().await {
                if line.contains("listening on") {
                    return true;
                }
                said.push(line);
            }
            false
        });
        if !listening.await.unwrap_or(false) {
            let why = said.join("; ");
            let missing = why.contains("not found");
            let cure = if missing {
                "; scripts/host-setup.sh installs it"
            } else {
                ""
            };
            return Err(failed(format!("{why}{cure}")));
        }
        tokio::spawn(async move { while let Ok(Some(_)) = from.next_line().await {} });
    }
    Ok(Box::new(Tcpdump {
        _process: process,
        seen,
    }))
}
