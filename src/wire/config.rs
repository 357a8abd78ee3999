//! A guest's configuration.

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::units::Mac;

/// All that a guest needs to know of itself. Handed over at boot through `fw_cfg`, and again by
/// [`super::Request::Configure`] when the topology changes in a way that a running guest can follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostConfig {
    /// The guest's host name.
    pub hostname: String,
    /// Its interfaces.
    pub nics: Vec<NicConfig>,
    /// Lines for `/etc/hosts`.
    pub hosts: Vec<(Ipv4Addr, String)>,
    /// What it runs.
    pub services: Vec<ServiceConfig>,
    /// Its nova-compute, where it is a compute host.
    pub compute: Option<ComputeConfig>,
    /// VIPs that it holds: name, address, port.
    pub vips: Vec<(String, Ipv4Addr, u16)>,
    /// Stand-in timers of 60 s and more are divided by this.
    pub time_scale: u32,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicConfig {
    /// Which one.
    pub mac: Mac,
    /// The name it gets.
    pub name: String,
    /// Its addresses with prefix lengths, the first one primary.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Where the default route goes, on at most one interface.
    pub gateway: Option<Ipv4Addr>,
}

/// A service that the guest plays: one process that holds memory and answers on ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// The service's name; its process bears the first 15 characters.
    pub name: String,
    /// The memory it holds, in MiB as run (scaled).
    pub memory_mib: u64,
    /// Its `oom_score_adj`.
    pub oom_score_adj: i16,
    /// TCP ports it serves, on all addresses: any HTTP request is answered 200 with a small JSON document.
    pub ports: Vec<u16>,
    /// What it asks every 60 s, divided by [`HostConfig::time_scale`]. Its own answers then say whether that answered.
    #[serde(default)]
    pub polls: Option<SocketAddrV4>,
}

/// nova-compute's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeConfig {
    /// The host's memory as Nova sees it, full-size MiB.
    pub total_mib: u64,
    /// `reserved_host_memory_mb`, full-size, until [`super::Request::ComputeReserve`] sets another.
    pub reserved_mib: u64,
    /// `resume_guests_state_on_host_boot`.
    pub resume: bool,
    /// Placement's RAM allocation ratio for this host.
    pub ram_allocation_ratio: f64,
    /// Memory by flavor, full-size MiB.
    pub flavors: std::collections::BTreeMap<String, u64>,
    /// Instances that exist from the start.
    pub instances: Vec<InstanceConfig>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConfig {
    /// Its name.
    pub name: String,
    /// Its flavor's memory, full-size MiB: what Placement counts.
    pub flavor_mib: u64,
    /// The memory its process maps, MiB as run (scaled).
    pub memory_mib: u64,
    /// TCP ports that it answers on, at its host's addresses.
    #[serde(default)]
    pub ports: Vec<u16>,
}
