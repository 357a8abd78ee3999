//! `memory`: a host has less memory available than a share, or its tasks wait for memory for more than a share of the time;
//! now, or just before its kernel killed a process for want of it.

use std::time::Duration;

use super::{oom_report, serial_log};
use crate::hypervisor::Power;
use crate::scenario::Evidence;
use crate::scenario::arguments::{Percent, Period};
use crate::scenario::probe::prelude::*;
use crate::wire::MemoryState;

/// Fires when less than that share is available; PSI full avg10 is over that share; all tasks have waited so long since the
/// first look; with `before-kill: true`, at the host's last reading before its kernel killed a process for want of memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Memory {
    host: Name,
    /// Percent of the whole.
    #[serde(default)]
    available_below: Option<Percent>,
    /// Percent of the last ten seconds, PSI full.
    #[serde(default)]
    pressure_over: Option<Percent>,
    /// How long all tasks have waited for memory since the first look.
    #[serde(default)]
    stalled_over: Option<Period>,
    /// Whether it is to have been so at the last reading before the first kill since the first look.
    #[serde(default)]
    before_kill: bool,
}

/// Where things stand at the first look.
#[derive(Default)]
pub(crate) struct Begun {
    psi_full_total_us: u64,
    oom_kill: u64,
    /// The length of the host's console log.
    console: u64,
}

impl Memory {
    fn stalled_us(&self) -> Option<u64> {
        let stalled = self.stalled_over?.duration();
        u64::try_from(stalled.as_micros()).ok()
    }

    /// Whether memory is short enough that tasks wait for it: what was asked for of that and holds.
    fn pressed(
        &self,
        memory: &MemoryState,
        before_us: u64,
        source: &str,
    ) -> Result<Vec<Evidence>, FaultError> {
        let mut found = Vec::new();
        if let Some(Percent(over)) = self.pressure_over {
            let pressure = memory.psi_full_avg10.ok_or_else(|| self.no_pressure())?;
            if pressure > over {
                found.push(evidence(source, format!("full avg10={pressure}")));
            }
        }
        if let Some(over) = self.stalled_us() {
            let total = memory.psi_full_total_us;
            let total = total.ok_or_else(|| self.no_pressure())?;
            // After a boot it counts from zero.
            let before = Some(before_us).filter(|before| *before <= total);
            let stalled = total - before.unwrap_or(0);
            if stalled > over {
                found.push(evidence(
                    source,
                    format!("full total={total}: all tasks have waited {stalled} us since the first look"),
                ));
            }
        }
        Ok(found)
    }

    fn no_pressure(&self) -> FaultError {
        FaultError::Target(format!("the kernel of {} tells no pressure", self.host))
    }
}

/// The memory before the first kill since then, and when it was read; nothing where none was seen.
fn before_the_kill(now: MemoryState, oom_kills: u64) -> Option<(MemoryState, String)> {
    let mut before = now.before_kills.into_iter();
    let mut before = before.find(|before| before.memory.oom_kill == oom_kills)?;
    let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
    let mut when = format!(
        ", {:.2} s after its boot, before the kill",
        seconds(before.uptime_ms)
    );
    // How long tasks have waited is counted by the kernel, so that the first reading after the kill has all of it.
    if let Some((after_ms, total)) = before.after_kill {
        before.memory.psi_full_total_us = Some(total);
        when = format!(
            ", counted until {:.2} s after its boot, when the kill had been seen",
            seconds(after_ms)
        );
    }
    Some((before.memory, when))
}

impl Probe for Memory {
    const NAME: &'static str = "memory";
    type Reference = Begun;

    fn check(&self) -> Result<(), Mistake> {
        let shares = self.available_below.or(self.pressure_over).is_some();
        if !shares && self.stalled_over.is_none() {
            let why =
                "it looks at available-below, pressure-over, stalled-over, or several of them";
            return Err(Mistake::of_all("nothing", "condition", why));
        }
        self.stalled_over
            .map_or(Ok(()), |over| over.check("stalled-over"))
    }

    async fn begin(&self, world: &World) -> Result<Begun, FaultError> {
        world.host(&self.host)?;
        // One that does not run has waited for nothing yet.
        let power = world
            .drivers
            .hypervisor
            .domain
            .power_state(world.target(&self.host)?)
            .await?;
        let counts = self.stalled_over.is_some() || self.before_kill;
        if !counts || power != Power::Running {
            return Ok(Begun::default());
        }
        let memory = world.state(&self.host).await?.memory;
        let total = memory.psi_full_total_us;
        if self.stalled_over.is_some() && total.is_none() {
            return Err(self.no_pressure());
        }
        Ok(Begun {
            psi_full_total_us: total.unwrap_or_default(),
            oom_kill: memory.oom_kill,
            // A world without a console has none to read later either.
            console: serial_log::mark(world, &self.host).unwrap_or_default(),
        })
    }

    async fn look(&self, world: &World, begun: &Begun, _: &Seen) -> Result<Finding, FaultError> {
        let now = world.state(&self.host).await?.memory;
        let mut report = None;
        let (memory, when) = if self.before_kill {
            let Some(before) = before_the_kill(now, begun.oom_kill) else {
                return Ok(Finding::Quiet);
            };
            report = oom_report::first_since(world, &self.host, begun.console).unwrap_or_default();
            before
        } else {
            (now, String::new())
        };
        let source = |file: &str| format!("{file} on {}{when}", self.host);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of memory needs no more digits"
        )]
        let available = memory.available_kib as f64 * 100.0 / memory.total_kib.max(1) as f64;
        let mut found = Vec::new();
        if let (Some(Percent(below)), Some(report)) = (self.available_below, &report) {
            // What the kernel says of that very moment, whatever was read when.
            let percent = report.available_percent();
            if percent < below {
                found.push(evidence(
                    serial_log::source(world, &self.host),
                    format!(
                        "{} of {} KiB could be had, {percent:.1} %:\n{}",
                        report.available_kib,
                        report.total_kib,
                        report.lines.join("\n")
                    ),
                ));
            }
        } else if self
            .available_below
            .is_some_and(|below| available < below.0)
        {
            found.push(evidence(
                source("/proc/meminfo"),
                format!(
                    "{} of {} KiB are available, {available:.1} %",
                    memory.available_kib, memory.total_kib
                ),
            ));
        }
        found.extend(self.pressed(
            &memory,
            begun.psi_full_total_us,
            &source("/proc/pressure/memory"),
        )?);
        // All that was asked for has to hold.
        let asked = [
            self.available_below.is_some(),
            self.pressure_over.is_some(),
            self.stalled_over.is_some(),
        ];
        let asked = asked.iter().filter(|asked| **asked).count();
        let whole = asked > 0 && found.len() == asked;
        let used = memory.swap_total_kib.saturating_sub(memory.swap_free_kib);
        let swap = format!("swap: {used} of {} KiB used", memory.swap_total_kib);
        found.push(evidence(source("/proc/meminfo"), swap));
        Ok(if whole {
            Finding::Fired(found)
        } else {
            Finding::Quiet
        })
    }
}
