//! Switching a host.

use std::time::Duration;

use super::{ServiceError, Site};
use crate::hypervisor::{Power, PowerAction};
use crate::lab::{self, Found, FoundHost, Lock, Watch};

/// What is done to a host's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It is started.
    On,
    /// Its power is taken away at once.
    Off,
    /// Off, then on.
    Cycle,
    /// It goes on where it stands.
    Resume,
}

impl Switch {
    const fn actions(self) -> &'static [PowerAction] {
        match self {
            Self::On => &[PowerAction::Start],
            Self::Off => &[PowerAction::Destroy],
            Self::Cycle => &[PowerAction::Destroy, PowerAction::Start],
            Self::Resume => &[PowerAction::Resume],
        }
    }

    /// Refuses what does not go with a host's power, or would lose more than was asked for.
    pub fn check(self, host: &FoundHost) -> Result<(), ServiceError> {
        let (power, host) = (host.domain.power, host.name.to_string());
        match self {
            Self::Resume if power != Power::Paused => Err(ServiceError::NotPaused {
                host,
                power: format!("{power:?}").to_lowercase(),
            }),
            Self::On if power == Power::Paused => Err(ServiceError::IsPaused { host }),
            _ => Ok(()),
        }
    }
}

/// Sees whether a host that was let go goes on: QEMU pauses it again at once where there is still no space.
async fn stays(site: &Site, found: &Found, host: &str) -> Result<(), ServiceError> {
    const LOOK: Duration = Duration::from_millis(100);
    const LOOKS: u32 = 20;
    let drivers = site.drivers();
    let target = found.host(host)?.target(found.record.uuid);
    for _ in 0..LOOKS {
        drivers.clock.sleep(LOOK).await;
        if drivers.hypervisor.domain.power_state(target).await? == Power::Paused {
            let host = host.to_owned();
            return Err(ServiceError::PausedAgain { host });
        }
    }
    Ok(())
}

/// Switches a host; returns what it is then.
pub async fn power(
    site: &Site,
    (found, lock): (&Found, &Lock),
    host: &str,
    switch: Switch,
    watch: &dyn Watch,
) -> Result<Power, ServiceError> {
    let (drivers, layout) = (site.drivers(), site.layout());
    let actions = switch.actions();
    let state = lab::power(found, lock, host, actions, drivers, layout, watch).await?;
    if switch == Switch::Resume && state != Power::Paused {
        stays(site, found, host).await?;
    }
    Ok(state)
}
