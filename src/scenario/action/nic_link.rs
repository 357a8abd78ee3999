//! `nic-link`: takes the link of one of a host's interfaces down in QEMU, as a pulled cable or a dead switch port does. The guest
//! keeps its addresses and routes, and sees no carrier.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::NicState;
use crate::scenario::arguments::{host_of, network_of};
use crate::scenario::footprint::{Footprint, MACHINE, text};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "nic-link";

#[derive(Debug)]
struct NicLink {
    host: String,
    network: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    network: String,
    was: NicState,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let network = network_of(&mut fields, "network", reader);
    fields.finish(reader);
    Some(Box::new(NicLink {
        host: host?,
        network: network?,
    }))
}

/// How libvirt says that a host's interface on a network is.
pub(super) async fn state(
    world: &World,
    host: &str,
    network: &str,
) -> Result<NicState, ActionError> {
    let mac = world.mac(host, network)?;
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.nic(target, mac).await?)
}

/// Sets it.
pub(super) async fn set(
    world: &World,
    host: &str,
    network: &str,
    state: NicState,
) -> Result<(), ActionError> {
    let mac = world.mac(host, network)?;
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.set_nic(target, mac, state).await?)
}

#[async_trait]
impl Action for NicLink {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("take the link of {} to {} down", self.host, self.network)
    }

    /// A baseline is of hosts with all their devices.
    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let was = state(world, &self.host, &self.network).await?;
        if was != NicState::Up {
            return Err(ActionError::Target(format!(
                "the interface of {} on {} is {was:?}, not Up",
                self.host, self.network
            )));
        }
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            network: self.network.clone(),
            was,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        set(world, &self.host, &self.network, NicState::Down).await
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let now = state(world, &self.host, &self.network).await?;
        let seen = format!("libvirt says of it: {now:?}");
        Ok(Verified::new(now == NicState::Down, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, network, was } = serde_json::from_value(captured)?;
    // A process that was started meanwhile has its links as they are defined; one that is off has none.
    match state(world, &host, &network).await? {
        now if now == was => {}
        NicState::Down => set(world, &host, &network, was).await?,
        NicState::Up | NicState::Out => {}
    }
    Ok(format!("the link of {host} to {network} is as before"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(captured: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MACHINE, "links", text(captured, "network")])
}
