//! `nic-link`: takes the link of one of a host's interfaces down in QEMU, as a pulled cable or a dead switch port does. The guest
//! keeps its addresses and routes, and sees no carrier.

use crate::hypervisor::NicState;
use crate::scenario::fault::prelude::*;

/// Takes an interface's link down in QEMU, as a pulled cable.
///
/// Revert: the link before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NicLink {
    host: Name,
    network: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    network: String,
    was: NicState,
}

fn footprint(host: &str, network: &str) -> Footprint {
    Footprint::of_host(host).owns(&[MACHINE, "links", network])
}

/// How libvirt says that a host's interface on a network is.
pub(crate) async fn state(
    world: &World,
    host: &str,
    network: &str,
) -> Result<NicState, FaultError> {
    let mac = world.mac(host, network)?;
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.devices.nic(target, mac).await?)
}

/// Sets it.
pub(crate) async fn set(
    world: &World,
    host: &str,
    network: &str,
    state: NicState,
) -> Result<(), FaultError> {
    let mac = world.mac(host, network)?;
    let target = world.target(host)?;
    Ok(world
        .drivers
        .hypervisor
        .devices
        .set_nic(target, mac, state)
        .await?)
}

impl Fault for NicLink {
    const NAME: &'static str = "nic-link";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("take the link of {} to {} down", self.host, self.network)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.network)
    }

    /// A baseline is of hosts with all their devices.
    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let was = state(world, &self.host, &self.network).await?;
        if was != NicState::Up {
            return Err(FaultError::Target(format!(
                "the interface of {} on {} is {was:?}, not Up",
                self.host, self.network
            )));
        }
        Ok(Before {
            host: self.host.to_string(),
            network: self.network.to_string(),
            was,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        set(world, &self.host, &self.network, NicState::Down).await
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let now = state(world, &self.host, &self.network).await?;
        let seen = format!("libvirt says of it: {now:?}");
        Ok(Effectiveness::new(now == NicState::Down, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.network)
    }

    fn describe(&self) -> String {
        format!(
            "sets the link of {} to {} to {:?} again",
            self.host, self.network, self.was
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, network, was } = self;
        // A process that was started meanwhile has its links as they are defined; one that is off has none.
        match state(world, host, network).await? {
            now if now == *was => {}
            NicState::Down => set(world, host, network, *was).await?,
            NicState::Up | NicState::Out => {}
        }
        if *was == NicState::Up && state(world, host, network).await? == NicState::Down {
            let still = format!("the link of {host} to {network} is still down");
            return Err(FaultError::Target(still));
        }
        Ok(format!("the link of {host} to {network} is as before"))
    }
}
