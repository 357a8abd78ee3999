//! What a hypervisor is asked for: names, files and effective sizes, nothing left to decide.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AcceleratorChoice, Dhcp, Mark, NetworkMode, RamBacking, Thing};
use crate::units::{Cidr, Mac, Mib};

impl Thing for NetworkSpec {
    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Thing for DomainSpec {
    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A network to define. `mode` is never [`NetworkMode::Bridge`]: such a bridge is not twin's to define.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// libvirt's name for it, `<lab>-<network>`.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The bridge's name, at most 15 characters.
    pub bridge: String,
    /// How packets leave.
    pub mode: NetworkMode,
    /// Its addresses.
    pub cidr: Cidr,
    /// This machine's address on it.
    pub gateway: Option<Ipv4Addr>,
    /// Who hands out addresses.
    pub dhcp: Dhcp,
    /// Leases by MAC.
    pub leases: Vec<Lease>,
    /// Whether libvirt starts it when this machine boots.
    #[serde(default)]
    pub autostart: bool,
}

impl NetworkSpec {
    /// Whether `other` is the same network for the hosts on it: leases are for hosts that ask, and whether it is started at
    /// boot does not change it.
    pub fn serves_as(&self, other: &Self) -> bool {
        let alike = Self {
            leases: other.leases.clone(),
            autostart: other.autostart,
            ..self.clone()
        };
        alike == *other
    }
}

/// An address that DHCP gives to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The interface.
    pub mac: Mac,
    /// The host's name.
    pub name: String,
    /// The address.
    pub address: Ipv4Addr,
}

/// A domain to define.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSpec {
    /// libvirt's name for it, `<lab>-<host>`.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Memory that the guest gets, overhead included.
    pub memory: Mib,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// How it is run.
    pub accelerator: AcceleratorChoice,
    /// Where its memory lives.
    pub ram: RamBacking,
    /// What it boots.
    pub boot: Boot,
    /// Its disks.
    pub disks: Vec<DiskSpec>,
    /// A read-only ISO with the cloud-init seed.
    pub seed_iso: Option<PathBuf>,
    /// Its interfaces.
    pub nics: Vec<NicSpec>,
    /// The socket of twin-guest's channel.
    pub channel: PathBuf,
    /// The file that the serial console is logged to.
    pub serial_log: PathBuf,
    /// The `fw_cfg` document for twin-guest, JSON.
    pub config: Option<String>,
    /// Whether libvirt starts it when this machine boots.
    pub autostart: bool,
}

/// What a domain boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// A kernel directly.
    Kernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initial RAM file system.
        initrd: PathBuf,
        /// The kernel's command line.
        cmdline: String,
    },
    /// The first disk's boot loader.
    Disk,
    /// The network, then the first disk.
    Network,
}

/// A disk file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// The qcow2 file that the domain writes to.
    pub path: PathBuf,
    /// The file below it and its format, `qcow2` or `raw`.
    pub backing: Option<(PathBuf, String)>,
    /// Its size as the guest sees it.
    pub size: Mib,
    /// Whether the guest's and QEMU's flushes do not reach the disk (`cache=unsafe`). Labs of an older twin have that; a power
    /// loss of this machine may then damage the disk's tables, and all baselines in it with them.
    #[serde(default)]
    pub scratch: bool,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// Its MAC.
    pub mac: Mac,
    /// What it is plugged into.
    pub link: NicLink,
}

/// What an interface is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicLink {
    /// A libvirt network of the lab, by libvirt's name.
    Network(String),
    /// A bridge that exists already.
    Bridge(String),
}

/// A spec with the mark it will bear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marked<S> {
    /// What is asked for.
    pub spec: S,
    /// Whose it is.
    pub mark: Mark,
}
