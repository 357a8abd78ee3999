//! The seam to this machine's network: [`HostNet`].

mod bandwidth;
mod capture;
mod cut;
mod forward;
#[cfg(fuzzing)]
mod fuzzing;
mod leftover;
mod linux;
mod seams;
mod tool;

pub use bandwidth::HANDLE;
#[cfg(fuzzing)]
pub use fuzzing::read_rules;
pub use linux::LinuxNet;
pub use seams::{Firewall, HostNet, Links, Reach};

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::units::{Cidr, Mac};

/// A link of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias, where twin puts the lab's mark.
    pub alias: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its IPv4 addresses with prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Packets and bytes received and sent.
    pub counters: Counters,
}

/// A link's counters since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

/// An IPv4 route of this machine's main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to. The default route has none.
    pub destination: Option<Cidr>,
    /// The link it leaves by.
    pub link: Option<String>,
}

/// A network that the hypervisor makes, as far as this machine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The hypervisor's name for it.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// The bridge's Ethernet address, which is made from the network's UUID: no other bridge has it.
    pub mac: Mac,
    /// Its subnet, where this machine has an address on it.
    pub cidr: Option<Cidr>,
}

/// Hosts that are to be cut off from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// This machine's ends of their interfaces; of a host that is off there are none.
    pub ports: Vec<String>,
    /// The Ethernet addresses of their interfaces, which no other interface has.
    pub macs: Vec<Mac>,
    /// Their addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// Two sets of hosts between which no packet goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The two.
    pub sides: [Side; 2],
}

/// New connections from one bridge to another that are not to come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// The bridge that they come from.
    pub from: String,
    /// The bridge that they go to.
    pub to: String,
    /// Whether they are refused, at once; else they are dropped without a word.
    pub refused: bool,
}

/// A rule of this machine that refuses what goes to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Whose it is and where it stands: `iptables LIBVIRT_FWI`, `nftables ip libvirt_network guest_input`.
    pub place: String,
    /// Packets that it has refused.
    pub packets: u64,
}

/// How a connection went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Something accepted it.
    Open,
    /// It was refused at once.
    Refused,
    /// Nothing came back in time.
    TimedOut,
    /// It could not be sent, or a router said so.
    Unreachable {
        /// What the kernel said.
        why: String,
    },
}

impl std::fmt::Display for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => formatter.write_str("open"),
            Self::Refused => formatter.write_str("refused"),
            Self::TimedOut => formatter.write_str("timed-out"),
            Self::Unreachable { why } => write!(formatter, "unreachable: {why}"),
        }
    }
}

/// How a service answered over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status; 0 where what came is no answer over HTTP, or nothing came before the end.
    pub status: u16,
    /// The body, as far as it was read.
    pub body: String,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNetError {
    /// This user may not.
    #[error("no permission for {what}")]
    Permission {
        /// The call.
        what: String,
    },
    /// There is no such thing.
    #[error("{what} is not there")]
    NotFound {
        /// The thing.
        what: String,
    },
    /// The kernel or a tool refused.
    #[error("{what} failed: {why}")]
    Failed {
        /// The call.
        what: String,
        /// What was said.
        why: String,
    },
}

/// What a link lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bandwidth {
    /// Everything.
    Unlimited {
        /// Whether packets may queue, as the kernel has it by itself; libvirt makes the ends of its domains without.
        queue: bool,
    },
    /// So much, by twin's limit.
    Limited {
        /// In kbit a second.
        kbit: u64,
    },
    /// Another program has set a queueing discipline of its own.
    Foreign {
        /// The kind of queueing discipline.
        kind: String,
    },
}

/// What a capture has come to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The packets, a line each.
    pub packets: Vec<String>,
    /// Whether it sees no more: it has had its fill, was killed, or its link is gone.
    pub ended: bool,
}

/// Packets on a link, as they are captured; dropping it ends the capture, and so does the end of this process.
pub trait PacketCapture: std::fmt::Debug + Send + Sync {
    /// Those so far.
    fn captured(&self) -> Captured;
}
