//! `host-power`: takes a host's power away, gives it, resets it, stops its CPUs, or kills its QEMU.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::clock_step;
use super::contract::{Action, Verified};
use super::ran::Ran;
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::{Power, PowerAction};
use crate::lab::{BOOT_DEADLINE, Silent, stopped, switch};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE, MEMORY};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "host-power";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Off,
    On,
    Cycle,
    Reset,
    Pause,
    Kill,
}

const WORDS: &[(&str, Switch)] = &[
    ("off", Switch::Off),
    ("on", Switch::On),
    ("cycle", Switch::Cycle),
    ("reset", Switch::Reset),
    ("pause", Switch::Pause),
    ("kill", Switch::Kill),
];

#[derive(Debug)]
struct HostPower {
    host: String,
    power: Switch,
}

/// A host's power and what ran on it.
#[derive(Serialize, Deserialize)]
pub(super) struct Captured {
    pub(super) host: String,
    pub(super) power: Power,
    /// The boot that it was in; nothing where it did not answer, or has nothing that could.
    boot: Option<String>,
    /// How far its clock was behind this machine's; a boot takes it from one that counts whole seconds.
    #[serde(default)]
    behind_us: Option<i64>,
    /// What ran on it.
    #[serde(flatten)]
    ran: Ran,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let power = fields
        .required("power", reader)
        .and_then(|node| reader.choice(node, "power", WORDS));
    fields.finish(reader);
    Some(Box::new(HostPower {
        host: host?,
        power: power?,
    }))
}

impl Captured {
    /// Reads it.
    pub(super) async fn of(world: &World, host: &str) -> Result<Self, ActionError> {
        let power = power_state(world, host).await?;
        let state = match power {
            Power::Running => Some(world.state(host).await?),
            _ => None,
        };
        let behind_us = match &state {
            Some(_) => Some(clock_step::behind_us(world, host).await?),
            None => None,
        };
        Ok(Self {
            host: host.to_owned(),
            power,
            behind_us,
            boot: state.as_ref().map(|state| state.boot_id.clone()),
            ran: state.as_ref().map(Ran::of).unwrap_or_default(),
        })
    }
}

pub(super) async fn power(
    world: &World,
    host: &str,
    action: PowerAction,
) -> Result<(), ActionError> {
    let (lab, host) = (world.found.record.uuid, world.host(host)?);
    let (drivers, layout) = (&world.drivers, &world.layout);
    Ok(switch(host, lab, action, drivers, layout, &Silent).await?)
}

pub(super) async fn power_state(world: &World, host: &str) -> Result<Power, ActionError> {
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.power_state(target).await?)
}

/// The boot that a host is in, once it answers.
async fn boot(world: &World, host: &str, within: Duration) -> Result<String, ActionError> {
    let guest = world.guest(host)?;
    tokio::select! {
        greeted = guest.greet(within) => Ok(greeted?.boot_id),
        power = stopped(&world.drivers, world.target(host)?) => {
            Err(ActionError::Target(format!("{host} is {power:?} before its guest answered")))
        }
    }
}

#[async_trait]
impl Action for HostPower {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        let host = &self.host;
        match self.power {
            Switch::Off => format!("take {host}'s power away"),
            Switch::On => format!("start {host}"),
            Switch::Cycle => format!("take {host}'s power away and give it back"),
            Switch::Reset => format!("press {host}'s reset button"),
            Switch::Pause => format!("stop {host}'s CPUs"),
            Switch::Kill => format!("kill {host}'s QEMU"),
        }
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let captured = Captured::of(world, &self.host).await?;
        let power = captured.power;
        let needed = match self.power {
            Switch::On => power == Power::ShutOff || power == Power::Crashed,
            _ => power == Power::Running,
        };
        if !needed {
            return Err(ActionError::Target(format!(
                "{} is {power:?} already",
                self.host
            )));
        }
        Ok(serde_json::to_value(captured)?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        within: Duration,
    ) -> Result<(), ActionError> {
        let host = &self.host;
        match self.power {
            Switch::Off => power(world, host, PowerAction::Destroy).await?,
            Switch::Pause => power(world, host, PowerAction::Suspend).await?,
            Switch::Kill => {
                power(world, host, PowerAction::Kill).await?;
                return gone(world, host, within).await;
            }
            Switch::On => power(world, host, PowerAction::Start).await?,
            Switch::Cycle => {
                power(world, host, PowerAction::Destroy).await?;
                power(world, host, PowerAction::Start).await?;
            }
            Switch::Reset => power(world, host, PowerAction::Reset).await?,
        }
        if matches!(self.power, Switch::On | Switch::Cycle | Switch::Reset) {
            boot(world, host, within).await?;
        }
        Ok(())
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let now = power_state(world, &self.host).await?;
        let wanted = match self.power {
            Switch::Off => now == Power::ShutOff,
            Switch::Kill => now == Power::ShutOff || now == Power::Crashed,
            Switch::Pause => now == Power::Paused,
            Switch::On | Switch::Cycle | Switch::Reset => now == Power::Running,
        };
        let mut seen = format!("libvirt says that {} is {now:?}", self.host);
        if !wanted || !matches!(self.power, Switch::Cycle | Switch::Reset) {
            return Ok(Verified::new(wanted, seen));
        }
        let boot = boot(world, &self.host, BOOT_DEADLINE).await?;
        let fresh = captured.boot.as_ref() != Some(&boot);
        seen.push_str(if fresh {
            ", in another boot"
        } else {
            ", in the same boot"
        });
        Ok(Verified::new(fresh, seen))
    }
}

/// Waits until libvirt has noticed that a domain's process is gone.
async fn gone(world: &World, host: &str, within: Duration) -> Result<(), ActionError> {
    let clock = &world.drivers.clock;
    let until = clock.elapsed() + within;
    while power_state(world, host).await? == Power::Running {
        if clock.elapsed() >= until {
            return Err(ActionError::Deadline {
                last: format!("{host} still runs"),
            });
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    again(world, &serde_json::from_value(captured)?).await
}

/// Sets the power that a host had, and makes run what ran on it.
pub(super) async fn again(world: &World, captured: &Captured) -> Result<String, ActionError> {
    let host = &captured.host;
    match (captured.power, power_state(world, host).await?) {
        (Power::ShutOff | Power::Crashed, Power::ShutOff | Power::Crashed) => {}
        (Power::ShutOff | Power::Crashed, _) => power(world, host, PowerAction::Destroy).await?,
        (Power::Running, Power::Running) => {}
        (Power::Running, Power::Paused) => power(world, host, PowerAction::Resume).await?,
        (Power::Running, _) => power(world, host, PowerAction::Start).await?,
        (Power::Paused, _) => power(world, host, PowerAction::Suspend).await?,
    }
    if captured.power != Power::Running {
        return Ok(format!("{host} is off again"));
    }
    let now = boot(world, host, BOOT_DEADLINE).await?;
    let same = captured.boot.as_ref() == Some(&now);
    let guest = world.guest(host)?;
    let started = if same {
        0
    } else {
        captured.ran.again(guest.as_ref()).await?
    };
    // Last: what runs is worth more than what time it is.
    if let Some(was) = captured.behind_us {
        clock_step::settle(world, host, was, clock_step::NEAR_US).await?;
    }
    if same {
        return Ok(format!("{host} runs, in the same boot"));
    }
    Ok(format!(
        "{host} runs, with {started} instances started anew"
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    // It starts what ran.
    Footprint::default()
        .owns(&[INSIDE, "power"])
        .reads(&[MEMORY, "clock"])
        .reads(&[MEMORY, "signals"])
        .reads(&[INSIDE, "instances"])
        .reads(&[INSIDE, "services"])
}
