//! `packet-capture`: packets on one of the lab's bridges that match a filter, as tcpdump on this machine sees them.

use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World};
use crate::units::Name;

pub(super) const NAME: &str = "packet-capture";

/// It ends by itself after so many seconds, should twin die, and after so many packets.
const MOST_SECONDS: &str = "1800";
const MOST_PACKETS: &str = "200";

/// Packets that are shown as evidence.
const SHOWN: usize = 5;

#[derive(Debug, Default)]
struct Capture {
    process: Option<Child>,
    lines: std::sync::Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct PacketCapture {
    network: String,
    filter: String,
    at_least: usize,
    capture: Mutex<Capture>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let network: Option<Name> = fields
        .required("network", reader)
        .and_then(|node| reader.scalar(node, "network's name"));
    let filter = fields
        .required("filter", reader)
        .and_then(|node| reader.scalar(node, "filter"));
    let at_least = fields.optional("at-least");
    let at_least = at_least.map_or(Some(1), |node| reader.scalar(node, "count"));
    fields.finish(reader);
    Some(Box::new(PacketCapture {
        network: network?.to_string(),
        filter: filter?,
        at_least: at_least?,
        capture: Mutex::default(),
    }))
}

impl PacketCapture {
    fn held(&self) -> std::sync::MutexGuard<'_, Capture> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Probe for PacketCapture {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let bridge = world.bridge(&self.network)?;
        let failed = |error: std::io::Error| {
            ActionError::Target(format!(
                "tcpdump cannot be run: {error}; scripts/host-setup.sh installs it"
            ))
        };
        let mut child = Command::new("timeout")
            .args([
                MOST_SECONDS,
                "tcpdump",
                "-i",
                bridge,
                "-n",
                "-l",
                "-tt",
                "-c",
                MOST_PACKETS,
            ])
            .arg(&self.filter)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let lines = std::sync::Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            let lines = std::sync::Arc::clone(&lines);
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
        if let Some(stderr) = stderr {
            let mut from = BufReader::new(stderr).lines();
            let mut said = Vec::new();
            let listening = tokio::time::timeout(std::time::Duration::from_secs(10), async {
                while let Ok(Some(line)) = from.next_line().await {
                    if line.contains("listening on") {
                        return true;
                    }
                    said.push(line);
                }
                false
            });
            if !listening.await.unwrap_or(false) {
                return Err(ActionError::Target(format!("tcpdump: {}", said.join("; "))));
            }
            tokio::spawn(async move { while let Ok(Some(_)) = from.next_line().await {} });
        }
        *self.held() = Capture {
            process: Some(child),
            lines,
        };
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let bridge = world.bridge(&self.network)?;
        let held = self.held();
        if held.process.is_none() {
            return Err(ActionError::Target("nothing is captured".into()));
        }
        let lines = held.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < self.at_least {
            return Ok(Finding::Quiet);
        }
        let source = format!("tcpdump on {bridge}, {}", self.filter);
        let count = evidence(source.as_str(), format!("{} packets", lines.len()));
        let shown = lines
            .iter()
            .take(SHOWN)
            .map(|line| evidence(source.as_str(), line.as_str()));
        Ok(Finding::Fired(
            std::iter::once(count).chain(shown).collect(),
        ))
    }
}
