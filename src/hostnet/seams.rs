//! What can be asked of this machine's network, seam by seam.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Answer, Bandwidth, Connection, Cut, Forbidden, HostNetError, Link, Network, PacketCapture,
    Rejection, Route,
};
use crate::units::{Cidr, Mac};

/// This machine's network, by what can be asked of it.
#[derive(Clone)]
pub struct HostNet {
    /// Links.
    pub links: Arc<dyn Links>,
    /// nftables and iptables.
    pub firewall: Arc<dyn Firewall>,
    /// Connections and captures.
    pub reach: Arc<dyn Reach>,
}

impl HostNet {
    /// One driver that does all of it.
    pub fn of<N: Links + Firewall + Reach + 'static>(driver: N) -> Self {
        let driver = Arc::new(driver);
        Self {
            links: driver.clone(),
            firewall: driver.clone(),
            reach: driver,
        }
    }
}

/// Links of this machine, and what it knows of the hosts on them.
#[async_trait]
pub trait Links: Send + Sync {
    /// Lists links with their addresses.
    async fn links(&self) -> Result<Vec<Link>, HostNetError>;

    /// Lists the IPv4 routes of the main table.
    async fn routes(&self) -> Result<Vec<Route>, HostNetError>;

    /// Puts an alias on a link.
    async fn set_alias(&self, link: &str, alias: &str) -> Result<(), HostNetError>;

    /// Forgets what this machine knows of the hosts on these bridges with these subnets: neighbours and connections.
    async fn forget_peers(&self, bridges: &[(String, Cidr)]) -> Result<(), HostNetError>;

    /// Removes what the hypervisor, killed while it started a network, left of it and does not know any more: the bridge, which
    /// must have the network's Ethernet address, with rules and the DHCP server. Only for a network that is not up. Returns
    /// whether there was anything.
    async fn clear_leftover(&self, network: &Network) -> Result<bool, HostNetError>;

    /// Lists the addresses that the hypervisor's DHCP server handed out on a bridge, by Ethernet address.
    async fn leases(&self, bridge: &str) -> Result<Vec<(Mac, Ipv4Addr)>, HostNetError>;

    /// What a link lets through from this machine.
    async fn bandwidth(&self, link: &str) -> Result<Bandwidth, HostNetError>;

    /// Sets that; fails where another program has set a queueing discipline of its own.
    async fn set_bandwidth(&self, link: &str, bandwidth: &Bandwidth) -> Result<(), HostNetError>;
}

/// This machine's nftables and iptables.
#[async_trait]
pub trait Firewall: Send + Sync {
    /// Lists nftables tables as FAMILY and NAME. Empty where nft is not installed.
    async fn tables(&self) -> Result<Vec<(String, String)>, HostNetError>;

    /// Lets nothing out of these ports of bridges any more until the bridge table `table`, which this makes, is removed; and
    /// drops what waits in them. A port that is gone is as good.
    async fn hold(&self, table: &str, ports: &[String]) -> Result<(), HostNetError>;

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

    /// Removes an nftables table; one that is gone is as good.
    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError>;
}

/// What is seen of the network from this machine.
#[async_trait]
pub trait Reach: Send + Sync {
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
}
