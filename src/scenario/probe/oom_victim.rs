//! `oom-victim`: the process that the kernel killed is an instance's, was nearly full, and had no score adjustment.

use async_trait::async_trait;
use regex::Regex;

use super::contract::{Finding, Probe, Seen, evidence};
use super::kernel_log;
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, arguments};
use crate::wire::InstanceState;

pub(super) const NAME: &str = "oom-victim";

/// The kernel's line (kernel: `mm/oom_kill.c` `__oom_kill_process`).
const LINE: &str = r"Out of memory: Killed process (\d+) \((\S+)\) total-vm:\d+kB, anon-rss:(\d+)kB, file-rss:(\d+)kB.* oom_score_adj:(-?\d+)";

#[derive(Debug)]
struct OomVictim {
    host: String,
    rss_percent: u64,
    oom_score_adj: i64,
}

/// A process that the kernel killed, by its own words.
pub(super) struct Killed {
    pub(super) pid: u32,
    pub(super) rss_kib: u64,
    pub(super) oom_score_adj: i64,
    pub(super) line: String,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let rss_percent = fields
        .required("rss-percent", reader)
        .and_then(|node| reader.scalar(node, "percentage"));
    let oom_score_adj = fields
        .optional("oom-score-adj")
        .and_then(|node| reader.scalar(node, "oom-score-adj"));
    fields.finish(reader);
    Some(Box::new(OomVictim {
        host: host?,
        rss_percent: rss_percent?,
        oom_score_adj: oom_score_adj.unwrap_or(0),
    }))
}

/// Returns what the kernel killed since `from`.
pub(super) fn killed_since(
    world: &World,
    host: &str,
    from: u64,
) -> Result<Vec<Killed>, ActionError> {
    let pattern = Regex::new(LINE).map_err(|error| ActionError::Target(error.to_string()))?;
    let lines = kernel_log::lines_since(world, host, from)?;
    let parse = |line: &String| {
        let found = pattern.captures(line)?;
        let number = |index: usize| found.get(index)?.as_str().parse::<u64>().ok();
        Some(Killed {
            pid: u32::try_from(number(1)?).ok()?,
            rss_kib: number(3)? + number(4)?,
            oom_score_adj: found.get(5)?.as_str().parse().ok()?,
            line: line.clone(),
        })
    };
    Ok(lines.iter().filter_map(parse).collect())
}

/// Finds the instance that a killed process was.
pub(super) fn instance_of<'s>(
    instances: &'s [InstanceState],
    killed: &Killed,
) -> Option<&'s InstanceState> {
    instances
        .iter()
        .find(|instance| instance.last_pid == Some(killed.pid))
}

#[async_trait]
impl Probe for OomVictim {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        Ok(kernel_log::mark(world, &self.host)?.into())
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let killed = killed_since(world, &self.host, begun.as_u64().unwrap_or_default())?;
        if killed.is_empty() {
            return Ok(Finding::Quiet);
        }
        let state = world.state(&self.host).await?;
        for one in &killed {
            let Some(instance) = instance_of(&state.instances, one) else {
                continue;
            };
            let full = one.rss_kib * 100 >= instance.memory_mib * 1024 * self.rss_percent;
            if full && one.oom_score_adj == self.oom_score_adj {
                let percent = one.rss_kib * 100 / (instance.memory_mib * 1024).max(1);
                let text = format!(
                    "process {} is instance {}, with {percent} % of its flavor's memory",
                    one.pid, instance.name
                );
                return Ok(Finding::Fired(vec![
                    evidence(kernel_log::source(world, &self.host), one.line.as_str()),
                    evidence(format!("nova-compute's record on {}", self.host), text),
                ]));
            }
        }
        Ok(Finding::Quiet)
    }
}
