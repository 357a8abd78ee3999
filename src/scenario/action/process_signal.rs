//! `process-signal`: kills or stops all processes of a name inside a host. What was stopped goes on again; a service or
//! instance that was killed is started. Another that is killed could not be brought back, and is left alone.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use super::ran::Ran;
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE, MEMORY};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "process-signal";

/// What the kernel keeps of a process's name.
const COMM: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Kill,
    Stop,
}

#[derive(Debug)]
struct ProcessSignal {
    host: String,
    process: String,
    signal: Signal,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    pids: Vec<u32>,
    /// What ran on it.
    #[serde(flatten)]
    ran: Ran,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let process = fields
        .required("process", reader)
        .and_then(|node| reader.scalar::<String>(node, "process name"));
    let words = [("kill", Signal::Kill), ("stop", Signal::Stop)];
    let signal = fields
        .required("signal", reader)
        .and_then(|node| reader.choice(node, "signal", &words));
    fields.finish(reader);
    Some(Box::new(ProcessSignal {
        host: host?,
        process: cut(&process?),
        signal: signal?,
    }))
}

/// A process's name as the kernel keeps it.
fn cut(name: &str) -> String {
    name.chars().take(COMM).collect()
}

/// Processes of a name, with the letter of their state.
pub(in super::super) async fn found(
    world: &World,
    host: &str,
    name: &str,
) -> Result<Vec<(u32, char)>, ActionError> {
    // The name is in brackets and may hold blanks; the state follows them.
    let script = "for d in /proc/[0-9]*; do n=$(cat $d/comm 2>/dev/null) || continue; \
        [ \"$n\" = \"$1\" ] || continue; s=$(sed 's/.*) //' $d/stat 2>/dev/null) || continue; \
        echo \"${d#/proc/} ${s%% *}\"; done";
    let name = cut(name);
    let said = inside::run(world, host, &["sh", "-ec", script, "sh", &name]).await?;
    let one = |line: &str| {
        let (pid, state) = line.split_once(' ')?;
        Some((pid.parse().ok()?, state.chars().next()?))
    };
    Ok(said.lines().filter_map(one).collect())
}

/// Sends a signal; a process that is gone needs none.
async fn send(world: &World, host: &str, signal: &str, pids: &[u32]) -> Result<(), ActionError> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let script = format!(
        "for p in {}; do kill -{signal} $p 2>/dev/null || :; done",
        pids.join(" ")
    );
    inside::script(world, host, &script).await.map(drop)
}

#[async_trait]
impl Action for ProcessSignal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        let verb = match self.signal {
            Signal::Kill => "kill",
            Signal::Stop => "stop",
        };
        format!(
            "{verb} the processes called {} on {}",
            self.process, self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let Self { host, process, .. } = self;
        let refused = |why: String| Err(ActionError::Target(why));
        let mut found = found(world, host, process).await?;
        if found.is_empty() {
            return refused(format!("no process on {host} is called {process}"));
        }
        let state = world.state(host).await?;
        match self.signal {
            Signal::Kill => {
                let services = state.services.iter().map(|one| &one.process);
                let instances = state.instances.iter().map(|one| &one.process);
                let known = services.chain(instances).flatten();
                let known: Vec<u32> = known.map(|process| process.pid).collect();
                if let Some((pid, _)) = found.iter().find(|(pid, _)| !known.contains(pid)) {
                    return refused(format!(
                        "process {pid} on {host}, {process}, is of no service and no instance, and nobody could start it again"
                    ));
                }
            }
            // Those are stopped already, and not by twin.
            Signal::Stop => found.retain(|(_, state)| *state != 'T'),
        }
        if found.is_empty() {
            return refused(format!(
                "what is called {process} on {host} is stopped already"
            ));
        }
        Ok(serde_json::to_value(Captured {
            host: host.clone(),
            pids: found.into_iter().map(|(pid, _)| pid).collect(),
            ran: Ran::of(&state),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let signal = match self.signal {
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
        };
        send(world, &self.host, signal, &captured.pids).await
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let now = found(world, &self.host, &self.process).await?;
        let hit = captured.pids.iter().filter(|pid| {
            let state = now.iter().find(|(found, _)| found == *pid);
            match self.signal {
                Signal::Kill => state.is_none_or(|(_, state)| *state == 'Z'),
                Signal::Stop => state.is_some_and(|(_, state)| *state == 'T'),
            }
        });
        let (hit, all) = (hit.count(), captured.pids.len());
        let word = match self.signal {
            Signal::Kill => "gone",
            Signal::Stop => "stopped",
        };
        let seen = format!(
            "{hit} of {all} processes called {} are {word}",
            self.process
        );
        Ok(Verified::new(hit == all, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let host = &captured.host;
    // After a kill or a boot these are nobody's; going on does nothing to what is not stopped.
    send(world, host, "CONT", &captured.pids).await?;
    let still = stopped(world, host, &captured.pids).await?;
    if !still.is_empty() {
        return Err(ActionError::Target(format!(
            "processes of {host} are stopped still: {still:?}"
        )));
    }
    let guest = world.guest(host)?;
    let started = captured.ran.again(guest.as_ref()).await?;
    Ok(format!(
        "{} processes of {host} go on, the services run, {started} instances started",
        captured.pids.len()
    ))
}

/// Which of these processes are stopped.
async fn stopped(world: &World, host: &str, pids: &[u32]) -> Result<Vec<u32>, ActionError> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let script = format!(
        "for p in {}; do s=$(sed 's/.*) //' /proc/$p/stat 2>/dev/null) || continue; \
         [ \"${{s%% *}}\" != T ] || echo $p; done",
        pids.join(" ")
    );
    let said = inside::script(world, host, &script).await?;
    Ok(said.lines().filter_map(|line| line.parse().ok()).collect())
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default()
        .owns(&[MEMORY, "signals"])
        .reads(&[INSIDE, "services"])
}
