//! `oom-victim`: the process that the kernel killed is an instance's, was nearly full, and had no score adjustment.

use regex::Regex;

use super::serial_log;
use crate::scenario::probe::prelude::*;
use crate::wire::InstanceState;

/// The kernel's line (kernel: `mm/oom_kill.c` `__oom_kill_process`).
const LINE: &str = r"Out of memory: Killed process (\d+) \((\S+)\) total-vm:\d+kB, anon-rss:(\d+)kB, file-rss:(\d+)kB.* oom_score_adj:(-?\d+)";

/// Fires when the kernel killed an instance's process that was so full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct OomVictim {
    host: Name,
    /// Of its memory, what it held at least.
    rss_percent: u64,
    #[serde(default)]
    oom_score_adj: i64,
}

/// A process that the kernel killed, by its own words.
pub(super) struct Killed {
    pub(super) pid: u32,
    pub(super) rss_kib: u64,
    pub(super) oom_score_adj: i64,
    pub(super) line: String,
}

/// Returns what the kernel killed since `from`.
pub(super) fn killed_since(
    world: &World,
    host: &str,
    from: u64,
) -> Result<Vec<Killed>, FaultError> {
    let pattern = Regex::new(LINE).map_err(|error| FaultError::Target(error.to_string()))?;
    let lines = serial_log::lines_since(world, host, from)?;
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

impl Probe for OomVictim {
    const NAME: &'static str = "oom-victim";
    type Reference = u64;

    async fn begin(&self, world: &World) -> Result<u64, FaultError> {
        serial_log::mark(world, &self.host)
    }

    async fn look(&self, world: &World, begun: &u64, _: &Seen) -> Result<Finding, FaultError> {
        let killed = killed_since(world, &self.host, *begun)?;
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
                    evidence(serial_log::source(world, &self.host), one.line.as_str()),
                    evidence(format!("nova-compute's record on {}", self.host), text),
                ]));
            }
        }
        Ok(Finding::Quiet)
    }
}
