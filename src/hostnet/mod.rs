//! The seam to this machine's network: [`HostNet`].

mod bandwidth;
mod capture;
mod cut;
mod forward;
#[cfg(fuzzing)]
mod fuzzing;
mod leftover;
mod linux;
mod tool;

pub use bandwidth::HANDLE;
#[cfg(fuzzing)]
pub use fuzzing::read_rules;
pub use linux::LinuxNet;

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
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

/// This machine's network.
#[async_trait]
pub trait HostNet: Send + Sync {
    /// Lists links with their addresses.
    async fn links(&self) -> Result<Vec<Link>, HostNetError>;

    /// Lists the IPv4 routes of the main table.
    async fn routes(&self) -> Result<Vec<Route>, HostNetError>;

    /// Puts an alias on a link.
    async fn set_alias(&self, link: &str, alias: &str) -> Result<(), HostNetError>;

    /// Lists nftables tables as FAMILY and NAME. Empty where nft is not installed.
    async fn tables(&self) -> Result<Vec<(String, String)>, HostNetError>;

    /// Lets nothing out of these ports of bridges any more until the bridge table `table`, which this makes, is removed; and
    /// drops what waits in them. A port that is gone is as good.
    async fn hold(&self, table: &str, ports: &[String]) -> Result<(), HostNetError>;

    /// Forgets what this machine knows of the hosts on these bridges with these subnets: neighbours and connections.
    async fn forget_peers(&self, bridges: &[(String, Cidr)]) -> Result<(), HostNetError>;

    /// Removes what the hypervisor, killed while it started a network, left of it and does not know any more: the bridge, which
    /// must have the network's Ethernet address, with rules and the DHCP server. Only for a network that is not up. Returns
    /// whether there was anything.
    async fn clear_leftover(&self, network: &Network) -> Result<bool, HostNetError>;

    /// Lists the addresses that the hypervisor's DHCP server handed out on a bridge, by Ethernet address.
    async fn leases(&self, bridge: &str) -> Result<Vec<(Mac, Ipv4Addr)>, HostNetError>;

    /// Opens a TCP connection from this machine and closes it.
    async fn connect(&self, address: Ipv4Addr, port: u16, within: Duration) -> Connection;

    /// Asks for a path over HTTP from this machine; how the connection went where there is no answer. It fails where it cannot
    /// ask.
    async fn get(
        &self,
        address: Ipv4Addr,
        port: u16,
        path: &str,
        within: Duration,
    ) -> Result<Result<Answer, Connection>, HostNetError>;

    /// Begins to capture the packets on a link that match a filter, in tcpdump's language.
    async fn capture(
        &self,
        link: &str,
        filter: &str,
    ) -> Result<Box<dyn PacketCapture>, HostNetError>;

    /// Drops what goes between two sets of hosts, in a chain of this name in tables of this name.
    async fn cut(&self, table: &str, chain: &str, cut: &Cut) -> Result<(), HostNetError>;

    /// Refuses or drops new connections from one bridge to another, before any other rule of this machine, in a chain of this
    /// name in a table of this name. [`HostNet::dropped`] and [`HostNet::mend`] are for it as well.
    async fn forbid(
        &self,
        table: &str,
        chain: &str,
        forbidden: &Forbidden,
    ) -> Result<(), HostNetError>;

    /// Lists the rules that refuse what goes to a bridge, of any program, by iptables or nftables.
    async fn rejections(&self, bridge: &str) -> Result<Vec<Rejection>, HostNetError>;

    /// Packets that a cut has dropped so far; nothing where there is no such cut.
    async fn dropped(&self, table: &str, chain: &str) -> Result<Option<u64>, HostNetError>;

    /// Mends a cut; one that is not there is as good.
    async fn mend(&self, table: &str, chain: &str) -> Result<(), HostNetError>;

    /// What a link lets through from this machine.
    async fn bandwidth(&self, link: &str) -> Result<Bandwidth, HostNetError>;

    /// Sets that; fails where another program has set a queueing discipline of its own.
    async fn set_bandwidth(&self, link: &str, bandwidth: &Bandwidth) -> Result<(), HostNetError>;

    /// Removes an nftables table; one that is gone is as good.
    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError>;
}
