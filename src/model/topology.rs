//! The topology as the operator wrote it. All sizes are full-size.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{AddrRange, Cidr, Mac, Mib, Name};

/// A validated topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Its name; the default lab bears it.
    pub name: Name,
    /// The networks, in the order of the file.
    pub networks: Vec<Network>,
    /// The hosts, in the order of the file.
    pub hosts: Vec<Host>,
    /// Virtual addresses of services.
    pub vips: Vec<Vip>,
    /// The settings of Nova and Placement.
    pub compute: Compute,
    /// What happens by itself.
    pub policy: Policy,
    /// The baselines that this topology expects.
    pub baselines: Vec<Baseline>,
}

/// How packets leave a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// libvirt masquerades, and refuses new connections from other networks (D-003).
    Nat,
    /// libvirt forwards without masquerading.
    Route,
    /// libvirt adds no forwarding rules.
    Open,
    /// Nothing leaves.
    Isolated,
    /// A bridge that exists already and is never touched.
    Bridge,
}

/// Who hands out addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dhcp {
    /// libvirt's dnsmasq, the hosts' addresses only.
    Static,
    /// No DHCP server of the lab's; another one may answer (MAAS).
    None,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// The bridge of the default lab. Without, a name is made.
    pub bridge: Option<String>,
    /// Its addresses.
    pub cidr: Cidr,
    /// The address of this machine on it.
    pub gateway: Option<Ipv4Addr>,
    /// How packets leave.
    pub mode: NetworkMode,
    /// Who hands out addresses.
    pub dhcp: Dhcp,
    /// Named ranges inside it.
    pub ranges: BTreeMap<Name, AddrRange>,
}

/// The name of an image recipe: `micro`, `debian`, `cloud`, `pxe`, or a recipe of the operator's.
pub type ImageName = Name;

/// Where a guest's memory lives on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RamBacking {
    /// In a file of libvirt's `memory_backing_dir`, which makes fast baselines possible.
    File,
    /// Anonymous memory.
    Anon,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name, which is the guest's host name too.
    pub name: Name,
    /// What it boots.
    pub image: ImageName,
    /// For `cloud`: the qcow2's path or URL, and its SHA-256.
    pub source: Option<(String, Option<String>)>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mib,
    /// Where that memory lives.
    pub ram: RamBacking,
    /// Disks, the first one to boot from.
    pub disks: Vec<Disk>,
    /// Interfaces.
    pub nics: Vec<Nic>,
    /// What it runs.
    pub services: Vec<Service>,
    /// Whether nova-compute runs on it.
    pub compute: bool,
    /// Tenant instances it carries from the start.
    pub instances: Vec<Instance>,
}

/// A disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its size.
    pub size: Mib,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The network it is on.
    pub network: Name,
    /// Its address there.
    pub address: Option<Ipv4Addr>,
    /// Its MAC, where the operator chose one.
    pub mac: Option<Mac>,
    /// Whether the guest's default route leaves here.
    pub default_route: bool,
}

/// A service on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name; its process bears the first 15 characters.
    pub name: Name,
    /// The memory it holds.
    pub memory: Mib,
    /// TCP ports it serves.
    pub ports: Vec<u16>,
    /// Its `oom_score_adj`.
    pub oom_score_adj: i16,
    /// What it asks again and again: how old what it answers with is hangs on that.
    #[serde(default)]
    pub polls: Option<SocketAddrV4>,
}

/// A tenant instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: Name,
    /// Its flavor, one of [`Compute::flavors`].
    pub flavor: Name,
    /// TCP ports that it answers on, at its host's addresses.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// A virtual address that a service answers on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The service's name.
    pub name: Name,
    /// The host that holds the address.
    pub host: Name,
    /// The address.
    pub address: Ipv4Addr,
    /// The network it lies in.
    pub network: Name,
    /// The port.
    pub port: u16,
    /// What the service behind it polls.
    #[serde(default)]
    pub polls: Option<SocketAddrV4>,
}

/// The settings of Nova and Placement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compute {
    /// Placement's RAM allocation ratio.
    pub ram_allocation_ratio: f64,
    /// Nova's `reserved_host_memory_mb`.
    pub reserved_host_memory: Mib,
    /// Nova's `resume_guests_state_on_host_boot`.
    pub resume_guests_state_on_host_boot: bool,
    /// Memory by flavor.
    pub flavors: BTreeMap<Name, Mib>,
}

impl Default for Compute {
    /// The charms' defaults: ratio 0.98, 512 MiB, no resume (shared/facts.md 1).
    fn default() -> Self {
        Self {
            ram_allocation_ratio: 0.98,
            reserved_host_memory: Mib(512),
            resume_guests_state_on_host_boot: false,
            flavors: BTreeMap::new(),
        }
    }
}

/// What happens by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether libvirt starts the hosts when this machine boots (D-041: no).
    pub autostart: bool,
}

/// A baseline that the topology expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its name.
    pub name: Name,
    /// What has to hold before it is taken.
    pub gates: Vec<String>,
}

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AcceleratorChoice {
    /// In hardware.
    Kvm,
    /// In software.
    Tcg,
}

impl AcceleratorChoice {
    /// The word that files and flags use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl Topology {
    /// Finds a host by name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name.as_str() == name)
    }

    /// Finds a network by name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks
            .iter()
            .find(|network| network.name.as_str() == name)
    }

    /// Returns the services of a host together with the ports of the VIPs that it holds.
    pub fn services_of(&self, host: &Host) -> Vec<Service> {
        let mut services = host.services.clone();
        for vip in self.vips.iter().filter(|vip| vip.host == host.name) {
            // A service listens on all addresses, so one port serves all VIPs that name it.
            let serves = |service: &&mut Service| service.ports.contains(&vip.port);
            if let Some(service) = services.iter_mut().find(serves) {
                service.polls = service.polls.or(vip.polls);
                continue;
            }
            match services.iter_mut().find(|service| service.name == vip.name) {
                Some(service) => {
                    service.ports.push(vip.port);
                    service.polls = service.polls.or(vip.polls);
                }
                None => services.push(Service {
                    name: vip.name.clone(),
                    memory: Mib(0),
                    ports: vec![vip.port],
                    oom_score_adj: 0,
                    polls: vip.polls,
                }),
            }
        }
        services
    }
}
