//! `host-power`: takes a host's power away, gives it, resets it, stops its CPUs, or kills its QEMU.

use crate::hypervisor::{Power, PowerAction};
use crate::lab::{BOOT_DEADLINE, Silent, stopped, switch};
use crate::scenario::fault::guest::{NEAR_US, Ran, behind_us, settle};
use crate::scenario::fault::prelude::*;

/// What is done to the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Switch {
    Off,
    On,
    Cycle,
    Reset,
    Pause,
    Kill,
}

fn footprint(host: &str) -> Footprint {
    // It starts what ran.
    Footprint::of_host(host)
        .owns(&[INSIDE, "power"])
        .reads(&[MEMORY, "clock"])
        .reads(&[MEMORY, "signals"])
        .reads(&[INSIDE, "instances"])
        .reads(&[INSIDE, "services"])
}

/// `off`, `on`, `cycle`, `reset`, `pause`, or `kill`: its QEMU gets SIGKILL.
///
/// Revert: the power before; services and instances that ran run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct HostPower {
    host: Name,
    power: Switch,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
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

impl Before {
    /// Reads it.
    pub(crate) async fn of(world: &World, host: &str) -> Result<Self, FaultError> {
        let power = power_state(world, host).await?;
        let state = match power {
            Power::Running => Some(world.state(host).await?),
            _ => None,
        };
        let behind_us = match &state {
            Some(_) => Some(behind_us(world, host).await?),
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

pub(crate) async fn power(
    world: &World,
    host: &str,
    action: PowerAction,
) -> Result<(), FaultError> {
    let (lab, host) = (world.found.record.uuid, world.host(host)?);
    let (drivers, layout) = (&world.drivers, &world.layout);
    Ok(switch(host, lab, action, drivers, layout, &Silent).await?)
}

pub(crate) async fn power_state(world: &World, host: &str) -> Result<Power, FaultError> {
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.domain.power_state(target).await?)
}

/// The boot that a host is in, once it answers.
async fn boot(world: &World, host: &str, within: Duration) -> Result<String, FaultError> {
    let guest = world.guest(host)?;
    tokio::select! {
        greeted = guest.greet(within) => Ok(greeted?.boot_id),
        power = stopped(&world.drivers, world.target(host)?) => {
            Err(FaultError::Target(format!("{host} is {power:?} before its guest answered")))
        }
    }
}

impl Fault for HostPower {
    const NAME: &'static str = "host-power";
    type Prior = Before;

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

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let captured = Before::of(world, &self.host).await?;
        let power = captured.power;
        let needed = match self.power {
            Switch::On => power == Power::ShutOff || power == Power::Crashed,
            _ => power == Power::Running,
        };
        if !needed {
            return Err(FaultError::Target(format!(
                "{} is {power:?} already",
                self.host
            )));
        }
        Ok(captured)
    }

    async fn inject(&self, world: &World, _: &Before, within: Duration) -> Result<(), FaultError> {
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

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let now = power_state(world, &self.host).await?;
        let wanted = match self.power {
            Switch::Off => now == Power::ShutOff,
            Switch::Kill => now == Power::ShutOff || now == Power::Crashed,
            Switch::Pause => now == Power::Paused,
            Switch::On | Switch::Cycle | Switch::Reset => now == Power::Running,
        };
        let mut seen = format!("libvirt says that {} is {now:?}", self.host);
        if !wanted || !matches!(self.power, Switch::Cycle | Switch::Reset) {
            return Ok(Effectiveness::new(wanted, seen));
        }
        let boot = boot(world, &self.host, BOOT_DEADLINE).await?;
        let fresh = captured.boot.as_ref() != Some(&boot);
        seen.push_str(if fresh {
            ", in another boot"
        } else {
            ", in the same boot"
        });
        Ok(Effectiveness::new(fresh, seen))
    }
}

/// Waits until libvirt has noticed that a domain's process is gone.
async fn gone(world: &World, host: &str, within: Duration) -> Result<(), FaultError> {
    let clock = &world.drivers.clock;
    let until = clock.elapsed() + within;
    while power_state(world, host).await? == Power::Running {
        if clock.elapsed() >= until {
            return Err(FaultError::Deadline {
                last: format!("{host} still runs"),
            });
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "sets {} to {:?} again, with the services and instances that ran",
            self.host, self.power
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        again(world, self).await
    }
}

/// Sets the power that a host had, and makes run what ran on it.
pub(crate) async fn again(world: &World, captured: &Before) -> Result<String, FaultError> {
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
    let started = if same {
        Ok(0)
    } else {
        captured.ran.again(world, host).await
    };
    // Last: what runs is worth more than what time it is.
    if let Some(was) = captured.behind_us {
        settle(world, host, was, NEAR_US).await?;
    }
    let started = started?;
    if same {
        return Ok(format!("{host} runs, in the same boot"));
    }
    Ok(format!(
        "{host} runs, with {started} instances started anew"
    ))
}
