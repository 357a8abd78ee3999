//! `nic-attach`: plugs one more interface into a host while it runs, with an address where one is given. That is how a host with one
//! interface becomes dual-homed (D-033).

use std::net::Ipv4Addr;

use super::detach::{find_device, is_there};
use crate::hypervisor::Power;
use crate::model::attached_mac;
use crate::model::spec::{NicLink, NicSpec};
use crate::scenario::fault::guest::inside;
use crate::scenario::fault::host::power_state;
use crate::scenario::fault::prelude::*;
use crate::units::Mac;

/// How long libvirt may take to plug in what it was asked to, and between two looks whether it has.
const COMES_ABOUT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

/// Plugs one more interface in while the host runs, up, with that address where one is given.
///
/// Revert: unplugs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NicAttach {
    host: Name,
    network: Name,
    /// What the guest gives it.
    address: Option<Ipv4Addr>,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    network: String,
    mac: Mac,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).sets(PLUGGED)
}

/// Whether libvirt says that the host has an interface with this Ethernet address.
async fn is_plugged_in(world: &World, host: &str, mac: Mac) -> Result<bool, FaultError> {
    let target = world.target(host)?;
    let anatomy = world.drivers.hypervisor.inspection.anatomy(target).await?;
    Ok(anatomy.taps.iter().any(|(of, _)| *of == mac))
}

impl Fault for NicAttach {
    const NAME: &'static str = "nic-attach";
    type Prior = Before;

    fn describe(&self) -> String {
        let address = self.address;
        let address = address.map_or_else(String::new, |address| format!(", with {address}"));
        format!(
            "plug one more interface of {} into {}{address}",
            self.host, self.network
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    /// A baseline is of hosts with their own devices.
    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let Self {
            host,
            network,
            address,
        } = self;
        let mac = attached_mac(world.target(host)?.uuid, network);
        world.bridge(network)?;
        if is_plugged_in(world, host, mac).await? {
            return Err(FaultError::Target(format!(
                "{host} has one more interface on {network} already"
            )));
        }
        // Another's would be taken away from it, and stay so in its peers' tables.
        if let Some(address) = address.filter(|address| !world.is_free(network, *address)) {
            return Err(FaultError::Target(format!(
                "{address} is no address of {network} that is free; ${{free.{network}}} is one"
            )));
        }
        Ok(Before {
            host: host.to_string(),
            network: network.to_string(),
            mac,
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let mac = captured.mac;
        let none = || FaultError::Target(format!("there is no network {}", self.network));
        let network = world.network(&self.network).ok_or_else(none)?;
        let link = NicLink::Network(network.name.clone());
        let target = world.target(&self.host)?;
        let nic = NicSpec { mac, link };
        world
            .drivers
            .hypervisor
            .devices
            .attach_nic(target, &nic)
            .await?;
        let mut script = find_device(&mac.to_string());
        if let Some(address) = self.address {
            let prefix = network.cidr.prefix();
            script += &format!("ip address replace {address}/{prefix} dev \"$d\"\n");
        }
        script += "ip link set dev \"$d\" up\n";
        inside::script(world, &self.host, &script).await.map(drop)
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let mac = captured.mac;
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
        Ok(Effectiveness::new(effective, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "takes the further interface of {} on {} out",
            self.host, self.network
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, network, mac } = self;
        let power = power_state(world, host).await?;
        if power == Power::ShutOff || power == Power::Crashed {
            return Ok(format!(
                "{host} is off, and starts with its own interfaces only"
            ));
        }
        // An attach that was given up on its way may still come about: libvirt does it when it gets to it.
        let (clock, target) = (&world.drivers.clock, world.target(host)?);
        let until = clock.elapsed() + COMES_ABOUT;
        loop {
            let was_there = is_plugged_in(world, host, *mac).await?;
            world
                .drivers
                .hypervisor
                .devices
                .detach_nic(target, *mac)
                .await?;
            if was_there || clock.elapsed() >= until {
                break;
            }
            clock.sleep(LOOK).await;
        }
        if is_plugged_in(world, host, *mac).await? {
            return Err(FaultError::Target(format!(
                "{host} has its further interface on {network} still"
            )));
        }
        Ok(format!(
            "the further interface of {host} on {network} is gone"
        ))
    }
}
