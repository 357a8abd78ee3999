//! Packets as tcpdump sees them on a link.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{HostNetError, PacketCapture};

/// It ends by itself after so many seconds, should twin die, and after so many packets.
const MOST_SECONDS: &str = "1800";
const MOST_PACKETS: &str = "200";

/// It listens within this.
const LISTENS: Duration = Duration::from_secs(10);

/// A capture that goes on until it is dropped.
#[derive(Debug)]
struct Tcpdump {
    _process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl PacketCapture for Tcpdump {
    fn packets(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
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
    let mut process = Command::new("timeout")
        .args([MOST_SECONDS, "tcpdump", "-i", link, "-n", "-l", "-tt"])
        .args(["-c", MOST_PACKETS, filter])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("{error}; scripts/host-setup.sh installs it")))?;
    let lines = Arc::new(Mutex::new(Vec::new()));
    if let Some(stdout) = process.stdout.take() {
        let lines = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut from = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = from.next_line().await {
                lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
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
            return Err(failed(said.join("; ")));
        }
        tokio::spawn(async move { while let Ok(Some(_)) = from.next_line().await {} });
    }
    Ok(Box::new(Tcpdump {
        _process: process,
        lines,
    }))
}
