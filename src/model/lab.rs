//! A topology as one lab on one machine.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Host, LabRecord, Network, NetworkMode, Topology};
use crate::units::{Cidr, Mac};

/// A network as it is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedNetwork {
    /// The network, with its addresses moved.
    pub network: Network,
    /// libvirt's name.
    pub libvirt_name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its bridge.
    pub bridge: String,
}

/// A host as it is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedHost {
    /// The host, with its addresses moved and MACs filled in; sizes still full-size.
    pub host: Host,
    /// libvirt's name.
    pub domain: String,
    /// Its UUID.
    pub uuid: Uuid,
}

/// A topology as one lab on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// What was decided when the lab was made.
    pub record: LabRecord,
    /// The topology with its addresses moved.
    pub topology: Topology,
    /// Its networks.
    pub networks: Vec<PlacedNetwork>,
    /// Its hosts.
    pub hosts: Vec<PlacedHost>,
}

impl Placed {
    /// Places `topology` as the lab `record`.
    ///
    /// Returns nothing when the shift moves an address out of the address space.
    pub fn new(mut topology: Topology, record: LabRecord) -> Option<Self> {
        shift(&mut topology, record.shift)?;
        let own_names = record.name == topology.name && record.shift == 0;
        let networks = topology
            .networks
            .iter()
            .enumerate()
            .map(|(index, network)| PlacedNetwork {
                libvirt_name: format!("{}-{}", record.name, network.name),
                uuid: thing_uuid(record.uuid, "network", network.name.as_str()),
                bridge: match &network.bridge {
                    Some(bridge) if own_names || network.mode == NetworkMode::Bridge => {
                        bridge.clone()
                    }
                    _ => bridge_name(record.uuid, index, network.name.as_str()),
                },
                network: network.clone(),
            });
        let hosts = topology.hosts.iter().map(|host| {
            let uuid = domain_uuid(record.uuid, host.name.as_str());
            let mut host = host.clone();
            for (index, nic) in host.nics.iter_mut().enumerate() {
                nic.mac.get_or_insert_with(|| mac_for(uuid, index));
            }
            PlacedHost {
                domain: format!("{}-{}", record.name, host.name),
                uuid,
                host,
            }
        });
        let (networks, hosts) = (networks.collect(), hosts.collect());
        Some(Self {
            record,
            topology,
            networks,
            hosts,
        })
    }

    /// Finds a host by name.
    pub fn host(&self, name: &str) -> Option<&PlacedHost> {
        self.hosts
            .iter()
            .find(|host| host.host.name.as_str() == name)
    }

    /// Finds a network by its name in the topology.
    pub fn network(&self, name: &str) -> Option<&PlacedNetwork> {
        self.networks
            .iter()
            .find(|network| network.network.name.as_str() == name)
    }
}

fn shift(topology: &mut Topology, offset: u32) -> Option<()> {
    let moved = |address: Ipv4Addr| u32::from(address).checked_add(offset).map(Ipv4Addr::from);
    let mut within: Vec<Cidr> = Vec::new();
    for network in topology
        .networks
        .iter_mut()
        .filter(|network| network.mode != NetworkMode::Bridge)
    {
        within.push(network.cidr);
        network.cidr = network.cidr.shifted(offset)?;
        network.gateway = network
            .gateway
            .map_or(Some(None), |gateway| moved(gateway).map(Some))?;
        for range in network.ranges.values_mut() {
            *range = range.shifted(offset);
        }
    }
    let moves = |address: Ipv4Addr| within.iter().any(|cidr| cidr.contains(address));
    for address in topology
        .hosts
        .iter_mut()
        .flat_map(|host| &mut host.nics)
        .filter_map(|nic| nic.address.as_mut())
    {
        if moves(*address) {
            *address = moved(*address)?;
        }
    }
    for vip in &mut topology.vips {
        if moves(vip.address) {
            vip.address = moved(vip.address)?;
        }
    }
    let services = topology
        .hosts
        .iter_mut()
        .flat_map(|host| &mut host.services);
    let polled = services.filter_map(|service| service.polls.as_mut());
    let by_vips = topology
        .vips
        .iter_mut()
        .filter_map(|vip| vip.polls.as_mut());
    for polled in polled.chain(by_vips) {
        if moves(*polled.ip()) {
            polled.set_ip(moved(*polled.ip())?);
        }
    }
    Some(())
}

fn thing_uuid(lab: Uuid, kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&lab, format!("{kind}/{name}").as_bytes())
}

/// Returns the UUID of a host's domain in a lab.
pub fn domain_uuid(lab: Uuid, host: &str) -> Uuid {
    thing_uuid(lab, "host", host)
}

/// Makes a bridge name of at most 15 characters that tells lab, place and network.
pub fn bridge_name(lab: Uuid, index: usize, network: &str) -> String {
    let lab = &lab.simple().to_string()[..6];
    let network: String = network
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(4)
        .collect();
    format!("tw{lab}-{index}{network}")
}

/// Makes a MAC in QEMU's range for a domain's interface.
pub fn mac_for(domain: Uuid, index: usize) -> Mac {
    let bytes = *Uuid::new_v5(&domain, format!("nic/{index}").as_bytes()).as_bytes();
    Mac([0x52, 0x54, 0x00, bytes[0], bytes[1], bytes[2]])
}

/// The Ethernet address of an interface that a domain gets while it runs, on top of those that it is defined with.
pub fn attached_mac(domain: Uuid, network: &str) -> Mac {
    mac_for(thing_uuid(domain, "attached", network), 0)
}

/// The Ethernet address of a network's bridge. It is the bridge's mark from the moment that it is made, which an alias is not.
pub fn bridge_mac(network: Uuid) -> Mac {
    mac_for(network, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_bridge_names_fit_the_kernel_and_differ_by_network() {
        let lab = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"lab");
        let names: Vec<String> = ["provider", "provider-two", "p"]
            .iter()
            .enumerate()
            .map(|(index, name)| bridge_name(lab, index, name))
            .collect();
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        assert_eq!(
            names
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            3
        );
    }

    #[test]
    fn macs_are_stable_local_unicast() {
        let domain = domain_uuid(Uuid::nil(), "openstack1");
        assert_eq!(mac_for(domain, 0), mac_for(domain, 0));
        assert_ne!(mac_for(domain, 0), mac_for(domain, 1));
        assert_eq!(mac_for(domain, 0).0[0] & 0b11, 0b10);
    }
}
