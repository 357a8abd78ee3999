//! Packets as tcpdump sees them on a link.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Captured, HostNetError, PacketCapture};

/// It ends by itself after so many packets.
const MOST_PACKETS: &str = "200";

/// Runs a program until its own input ends: that is when the capture is dropped, and when twin dies, however it does. The
/// program's death is told by the end of its output, which the shell has no part in.
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

/// Starts one; it listens when this returns.
pub(super) async fn start(
    link: &str,
    filter: &str,
) -> Result<Box<dyn PacketCapture>, HostNetError> {
    let mut process = Command::new("sh")
        .args(["-c", UNTIL_DROPPED, "sh"])
        .args(["tcpdump", "-i", link, "-n", "-l", "-tt"])
        .args(["-c", MOST_PACKETS, filter])
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
