//! `memory-pressure` and `cpu-pressure`: processes inside a host that hold memory, or that keep CPUs busy.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{self, Footprint};
use crate::scenario::{ActionError, World};
use crate::units::Mib;

pub(super) const MEMORY: &str = "memory-pressure";
pub(super) const CPU: &str = "cpu-pressure";

/// What it takes: memory, or CPUs.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// As in the file, full-size.
    Memory(Mib),
    Cpus(u32),
}

#[derive(Debug)]
struct Pressure {
    host: String,
    load: Load,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    /// The name of the processes, which nothing else has.
    process: String,
}

pub(super) fn parse_memory(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, MEMORY)?;
    let host = host_of(&mut fields, reader);
    let memory = fields
        .required("memory", reader)
        .and_then(|node| reader.scalar(node, "size"));
    fields.finish(reader);
    Some(Box::new(Pressure {
        host: host?,
        load: Load::Memory(memory?),
    }))
}

pub(super) fn parse_cpu(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, CPU)?;
    let host = host_of(&mut fields, reader);
    let cpus = fields
        .required("cpus", reader)
        .and_then(|node| reader.scalar(node, "number of CPUs"));
    fields.finish(reader);
    Some(Box::new(Pressure {
        host: host?,
        load: Load::Cpus(cpus?),
    }))
}

/// How many processes of this name there are, and the KiB that they hold.
async fn running(world: &World, host: &str, process: &str) -> Result<(u32, u64), ActionError> {
    let script = "n=0; k=0; for d in /proc/[0-9]*; do [ \"$(cat $d/comm 2>/dev/null)\" = \"$1\" ] || continue; \
        r=$(sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' $d/status 2>/dev/null); [ -n \"$r\" ] || continue; \
        n=$((n + 1)); k=$((k + r)); done; echo $n $k";
    let said = inside::run(world, host, &["sh", "-ec", script, "sh", process]).await?;
    let mut numbers = said.split_whitespace();
    let mut next = || numbers.next().and_then(|word| word.parse::<u64>().ok());
    let (count, kib) = (next().unwrap_or(0), next().unwrap_or(0));
    Ok((u32::try_from(count).unwrap_or(u32::MAX), kib))
}

#[async_trait]
impl Action for Pressure {
    fn name(&self) -> &'static str {
        match self.load {
            Load::Memory(_) => MEMORY,
            Load::Cpus(_) => CPU,
        }
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        match self.load {
            Load::Memory(memory) => format!("hold {memory} of memory on {}", self.host),
            Load::Cpus(cpus) => format!("keep {cpus} CPUs of {} busy", self.host),
        }
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        world.state(&self.host).await?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            process: format!("load-{}", &id[..8]),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        within: Duration,
    ) -> Result<(), ActionError> {
        let Captured { process, .. } = serde_json::from_value(captured.clone())?;
        // They outlive the session that starts them. A holder ends with its input, which stays open as long as the shell.
        let script = match self.load {
            Load::Memory(memory) => {
                let mib = world.found.record.scale.effective(memory).0;
                format!(
                    "(setsid sh -c 'mkfifo /run/{process}; exec 3<>/run/{process}; exec twin-guest hold {process} {mib} now 0 <&3' >/dev/null 2>&1 &)"
                )
            }
            Load::Cpus(cpus) => format!(
                "for i in $(seq {cpus}); do (setsid sh -c 'printf %s {process} > /proc/$$/comm; while :; do :; done' >/dev/null 2>&1 </dev/null &); done"
            ),
        };
        inside::script(world, &self.host, &script).await?;
        let clock = &world.drivers.clock;
        let until = clock.elapsed() + within;
        loop {
            let verified = self.verify(world, captured).await?;
            if verified.effective {
                return Ok(());
            }
            if clock.elapsed() >= until {
                return Err(ActionError::Deadline {
                    last: verified.seen,
                });
            }
            clock.sleep(Duration::from_millis(300)).await;
        }
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let Captured { process, .. } = serde_json::from_value(captured.clone())?;
        let (count, kib) = running(world, &self.host, &process).await?;
        let effective = match self.load {
            Load::Memory(memory) => {
                let wanted = world.found.record.scale.effective(memory).0 * 1024;
                count == 1 && kib * 10 >= wanted * 9
            }
            Load::Cpus(cpus) => count == cpus,
        };
        let seen = format!(
            "{count} processes {process} on {} hold {kib} KiB",
            self.host
        );
        Ok(Verified::new(effective, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, process } = serde_json::from_value(captured)?;
    let script = "for d in /proc/[0-9]*; do [ \"$(cat $d/comm 2>/dev/null)\" = \"$1\" ] && kill -KILL ${d#/proc/} 2>/dev/null || :; done; rm -f /run/$1";
    let clock = &world.drivers.clock;
    let until = clock.elapsed() + Duration::from_secs(10);
    loop {
        inside::run(world, &host, &["sh", "-ec", script, "sh", &process]).await?;
        let (count, _) = running(world, &host, &process).await?;
        if count == 0 {
            return Ok(format!("no process {process} on {host} any more"));
        }
        if clock.elapsed() >= until {
            return Err(ActionError::Target(format!(
                "{count} processes {process} are still on {host}"
            )));
        }
        clock.sleep(Duration::from_millis(300)).await;
    }
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().sets(&[footprint::MEMORY, "pressure"])
}
