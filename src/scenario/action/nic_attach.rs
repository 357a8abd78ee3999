//! `nic-attach`: plugs one more interface into a host while it runs, with an address where one is given. That is how a host with one
//! interface becomes dual-homed (D-033).

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::host_power::power_state;
use super::inside;
use super::nic_detach::{find_device, is_there};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::Power;
use crate::model::attached_mac;
use crate::model::spec::{NicLink, NicSpec};
use crate::scenario::arguments::{host_of, network_of};
use crate::scenario::footprint::{Footprint, PLUGGED};
use crate::scenario::{ActionError, World};
use crate::units::Mac;

pub(super) const NAME: &str = "nic-attach";

/// How long libvirt may take to plug in what it was asked to, and between two looks whether it has.
const COMES_ABOUT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct NicAttach {
    host: String,
    network: String,
    address: Option<Ipv4Addr>,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    network: String,
    mac: Mac,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let network = network_of(&mut fields, "network", reader);
    let address = fields.optional("address");
    let address = address.map(|node| reader.scalar(node, "address"));
    fields.finish(reader);
    Some(Box::new(NicAttach {
        host: host?,
        network: network?,
        address: match address {
            Some(address) => Some(address?),
            None => None,
        },
    }))
}

/// Whether libvirt says that the host has an interface with this Ethernet address.
async fn is_plugged_in(world: &World, host: &str, mac: Mac) -> Result<bool, ActionError> {
    let target = world.target(host)?;
    let anatomy = world.drivers.hypervisor.anatomy(target).await?;
    Ok(anatomy.taps.iter().any(|(of, _)| *of == mac))
}

#[async_trait]
impl Action for NicAttach {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        let address = self.address;
        let address = address.map_or_else(String::new, |address| format!(", with {address}"));
        format!(
            "plug one more interface of {} into {}{address}",
            self.host, self.network
        )
    }

    /// A baseline is of hosts with their own devices.
    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let Self {
            host,
            network,
            address,
        } = self;
        let mac = attached_mac(world.target(host)?.uuid, network);
        world.bridge(network)?;
        if is_plugged_in(world, host, mac).await? {
            return Err(ActionError::Target(format!(
                "{host} has one more interface on {network} already"
            )));
        }
        // Another's would be taken away from it, and stay so in its peers' tables.
        if let Some(address) = address.filter(|address| !world.is_free(network, *address)) {
            return Err(ActionError::Target(format!(
                "{address} is no address of {network} that is free; ${{free.{network}}} is one"
            )));
        }
        Ok(serde_json::to_value(Captured {
            host: host.clone(),
            network: network.clone(),
            mac,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let Captured { mac, .. } = serde_json::from_value(captured.clone())?;
        let none = || ActionError::Target(format!("there is no network {}", self.network));
        let network = world.network(&self.network).ok_or_else(none)?;
        let link = NicLink::Network(network.name.clone());
        let target = world.target(&self.host)?;
        let nic = NicSpec { mac, link };
        world.drivers.hypervisor.attach_nic(target, &nic).await?;
        let mut script = find_device(&mac.to_string());
        if let Some(address) = self.address {
            let prefix = network.cidr.prefix();
            script += &format!("ip address replace {address}/{prefix} dev \"$d\"\n");
        }
        script += "ip link set dev \"$d\" up\n";
        inside::script(world, &self.host, &script).await.map(drop)
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let Captured { mac, .. } = serde_json::from_value(captured.clone())?;
        let plugged = is_plugged_in(world, &self.host, mac).await?;
        let there = is_there(world, &self.host, &mac.to_string()).await?;
        let word = |is: bool| if is { "has" } else { "has not" };
        let mut seen = format!(
            "libvirt {} it, {} {} the device",
            word(plugged),
            self.host,
            word(there)
        );
        let mut effective = plugged && there;
        if let Some(address) = self.address {
            let script = format!(
                "{}ip -4 -o address show dev \"$d\"",
                find_device(&mac.to_string())
            );
            let has = there && {
                let said = inside::script(world, &self.host, &script).await?;
                said.contains(&format!(" {address}/"))
            };
            seen += &format!(", and {} {address} on it", word(has));
            effective &= has;
        }
        Ok(Verified::new(effective, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, network, mac } = serde_json::from_value(captured)?;
    let power = power_state(world, &host).await?;
    if power == Power::ShutOff || power == Power::Crashed {
        return Ok(format!(
            "{host} is off, and starts with its own interfaces only"
        ));
    }
    // An attach that was given up on its way may still come about: libvirt does it when it gets to it.
    let (clock, target) = (&world.drivers.clock, world.target(&host)?);
    let until = clock.elapsed() + COMES_ABOUT;
    loop {
        let was_there = is_plugged_in(world, &host, mac).await?;
        world.drivers.hypervisor.detach_nic(target, mac).await?;
        if was_there || clock.elapsed() >= until {
            break;
        }
        clock.sleep(LOOK).await;
    }
    if is_plugged_in(world, &host, mac).await? {
        return Err(ActionError::Target(format!(
            "{host} has its further interface on {network} still"
        )));
    }
    Ok(format!(
        "the further interface of {host} on {network} is gone"
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().sets(PLUGGED)
}
