//! A topology as one lab on one machine.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::spec::Thing;
use super::{AcceleratorChoice, Host, Network, NetworkMode, Topology};
use crate::units::{Cidr, Mac, Mib, Name};

/// The divisor of payload sizes: a power of two, 1 to 64.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Scale(u32);

/// The number is no power of two between 1 and 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scale is 1, 2, 4, 8, 16, 32 or 64")]
pub struct ScaleError;

impl Scale {
    /// Full size.
    pub const FULL: Self = Self(1);
    /// The smallest lab.
    pub const LARGEST: Self = Self(64);

    /// Makes a scale.
    pub const fn new(divisor: u32) -> Result<Self, ScaleError> {
        if divisor.is_power_of_two() && divisor <= Self::LARGEST.0 {
            Ok(Self(divisor))
        } else {
            Err(ScaleError)
        }
    }

    /// Returns the divisor.
    pub const fn divisor(self) -> u32 {
        self.0
    }

    /// Returns what runs where `full` was asked for.
    pub const fn effective(self, full: Mib) -> Mib {
        full.divided(self.0)
    }

    /// Chooses full size where `need` (by scale) fits `available`, else the largest scale that takes at most 60 % of it.
    pub fn choose(available: Mib, need: impl Fn(Self) -> Mib) -> Option<Self> {
        const SHARE_PERCENT: u64 = 60;
        let share = Mib(available.0 * SHARE_PERCENT / 100);
        (0..=6)
            .map(|power| Self(1 << power))
            .find(|scale| need(*scale) <= share)
    }
}

impl FromStr for Scale {
    type Err = ScaleError;
    fn from_str(text: &str) -> Result<Self, ScaleError> {
        Self::new(text.parse().map_err(|_| ScaleError)?)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What is decided once, when a lab is made. Each of the lab's things carries it, so that any one of them tells the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabRecord {
    /// The lab's identity.
    pub uuid: Uuid,
    /// Its name.
    pub name: Name,
    /// The topology it was made from.
    pub topology: Name,
    /// What payload sizes are divided by.
    pub scale: Scale,
    /// How guests are run.
    pub accelerator: AcceleratorChoice,
    /// How many addresses every network is moved up by; 0 in the default lab.
    pub shift: u32,
    /// Stand-in timers over 60 s are divided by this.
    pub time_scale: u32,
    /// The state directory that holds the lab's files. Marks of before 2026-12 do not name it: there the paths in the
    /// specs tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
}

/// The mark on a thing: the lab's, and what the thing is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The lab.
    pub lab: LabRecord,
    /// The host or network.
    pub thing: Name,
    /// What was asked for when the thing was made, as JSON of its spec: compared to find changes.
    pub spec: serde_json::Value,
}

/// What a mark says of the thing that carries it.
#[derive(Clone, Debug, PartialEq)]
pub enum Bearing {
    /// The mark is this thing's own: kind, UUID and name are those that it was made with.
    Own(Mark),
    /// The mark is another thing's. `virt-clone` and an edited `virsh dumpxml` keep the metadata.
    Foreign(Mark),
}

impl Mark {
    /// Tells whether the thing of kind `S` with this UUID and name is the one that the mark was made for.
    pub fn borne_by<S: Thing>(self, uuid: Uuid, name: &str) -> Bearing {
        let own = serde_json::from_value::<S>(self.spec.clone())
            .is_ok_and(|spec| spec.uuid() == uuid && spec.name() == name);
        if own {
            Bearing::Own(self)
        } else {
            Bearing::Foreign(self)
        }
    }

    /// The name that the mark's own thing has in the hypervisor, `h-a`.
    pub fn made_for(&self) -> String {
        let name = self.spec["name"].as_str();
        name.map_or_else(|| self.thing.to_string(), str::to_owned)
    }

    /// The UUID of the mark's own thing.
    pub fn made_for_uuid(&self) -> Option<Uuid> {
        self.spec["uuid"].as_str()?.parse().ok()
    }
}

impl Bearing {
    /// Splits into the thing's own mark and another's.
    pub fn split(bearing: Option<Self>) -> (Option<Mark>, Option<Mark>) {
        match bearing {
            Some(Self::Own(mark)) => (Some(mark), None),
            Some(Self::Foreign(mark)) => (None, Some(mark)),
            None => (None, None),
        }
    }
}

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
    fn the_scale_is_full_where_it_fits_and_else_takes_at_most_sixty_percent() {
        let need = |scale: Scale| scale.effective(Mib(136 * 1024)) + Mib(5 * 120);
        assert_eq!(Scale::choose(Mib(512 * 1024), need), Some(Scale::FULL));
        assert_eq!(
            Scale::choose(Mib(22 * 1024), need).map(Scale::divisor),
            Some(16)
        );
        assert_eq!(Scale::choose(Mib(1024), need), None);
    }

    #[test]
    fn only_powers_of_two_are_scales() {
        assert!("16".parse::<Scale>().is_ok());
        for bad in ["0", "3", "128", "x", "-1"] {
            assert_eq!(bad.parse::<Scale>(), Err(ScaleError), "{bad}");
        }
    }

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
