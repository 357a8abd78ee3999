//! The Linux driver: netlink for links and routes, nft for tables.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::tool::{self, DEADLINE};
use super::{
    Answer, Bandwidth, Connection, Counters, Cut, Firewall, Forbidden, HostNetError, Link, Links,
    Network, PacketCapture, Reach, Rejection, Route, bandwidth, capture, cut, forward, leftover,
};
use crate::http::{self, HttpError};
use crate::units::{Cidr, Mac};

/// Where libvirt's helper of dnsmasq writes leases down, a JSON file a bridge.
const LEASES: &str = "/var/lib/libvirt/dnsmasq";

/// The most that is kept of a service's answer, in characters.
const ANSWER_BYTES: usize = 256 << 10;

/// This machine's network through netlink and nft.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxNet;

fn failed(what: &str, error: &dyn std::fmt::Display) -> HostNetError {
    HostNetError::Failed {
        what: what.to_owned(),
        why: error.to_string(),
    }
}

fn netlink_error(what: &str, error: &rtnetlink::Error) -> HostNetError {
    if let rtnetlink::Error::NetlinkError(message) = error {
        match message.to_io().raw_os_error() {
            Some(nix::libc::EPERM) => {
                return HostNetError::Permission {
                    what: what.to_owned(),
                };
            }
            Some(nix::libc::ENODEV) => {
                return HostNetError::NotFound {
                    what: what.to_owned(),
                };
            }
            _ => {}
        }
    }
    failed(what, error)
}

/// Runs one conversation with the kernel within the deadline.
async fn talk<T>(
    what: &str,
    conversation: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> Result<T, HostNetError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| failed(what, &error))?;
    let driver = tokio::spawn(connection);
    let outcome = tokio::time::timeout(DEADLINE, conversation(handle)).await;
    driver.abort();
    match outcome {
        Ok(result) => result.map_err(|error| netlink_error(what, &error)),
        Err(_) => Err(failed(
            what,
            &format!("the kernel did not answer within {DEADLINE:?}"),
        )),
    }
}

#[async_trait]
impl Links for LinuxNet {
    async fn links(&self) -> Result<Vec<Link>, HostNetError> {
        let (links, addresses) = talk("listing links", async |handle| {
            let links: Vec<_> = handle.link().get().execute().try_collect().await?;
            let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
            Ok((links, addresses))
        })
        .await?;
        let mut by_link: HashMap<u32, Vec<(Ipv4Addr, u8)>> = HashMap::new();
        for address in addresses {
            let local = address
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                    _ => None,
                });
            if let Some(local) = local {
                by_link
                    .entry(address.header.index)
                    .or_default()
                    .push((local, address.header.prefix_len));
            }
        }
        let one = |message: rtnetlink::packet_route::link::LinkMessage| {
            let mut link = Link {
                index: message.header.index,
                name: String::new(),
                alias: None,
                mac: None,
                addresses: by_link.remove(&message.header.index).unwrap_or_default(),
                counters: Counters::default(),
            };
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => link.name = name,
                    LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                    LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                    LinkAttribute::Stats64(stats) => {
                        link.counters = Counters {
                            received_packets: stats.rx_packets,
                            sent_packets: stats.tx_packets,
                            received_bytes: stats.rx_bytes,
                            sent_bytes: stats.tx_bytes,
                        };
                    }
                    _ => {}
                }
            }
            link
        };
        Ok(links.into_iter().map(one).collect())
    }

    async fn routes(&self) -> Result<Vec<Route>, HostNetError> {
        let names: HashMap<u32, String> = self
            .links()
            .await?
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect();
        let messages: Vec<RouteMessage> = talk("listing routes", async |handle| {
            handle
                .route()
                .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
                .execute()
                .try_collect()
                .await
        })
        .await?;
        let main = messages
            .into_iter()
            .filter(|message| message.header.table == RouteHeader::RT_TABLE_MAIN);
        Ok(main
            .map(|message| {
                let (mut destination, mut link) = (None, None);
                for attribute in &message.attributes {
                    match attribute {
                        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                            destination = Some(Cidr::holding(
                                *address,
                                message.header.destination_prefix_length,
                            ));
                        }
                        RouteAttribute::Oif(index) => link = names.get(index).cloned(),
                        _ => {}
                    }
                }
                Route { destination, link }
            })
            .collect())
    }

    async fn set_alias(&self, link: &str, alias: &str) -> Result<(), HostNetError> {
        let index = self
            .links()
            .await?
            .into_iter()
            .find(|found| found.name == link)
            .map(|found| found.index)
            .ok_or_else(|| HostNetError::NotFound {
                what: format!("link {link}"),
            })?;
        let mut message = LinkUnspec::new_with_index(index).build();
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        talk(&format!("marking link {link}"), async |handle| {
            handle.link().set(message).execute().await
        })
        .await
    }

    async fn leases(&self, bridge: &str) -> Result<Vec<(Mac, Ipv4Addr)>, HostNetError> {
        let file = format!("{LEASES}/{bridge}.status");
        let text = match tokio::fs::read(&file).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&format!("reading {file}"), &error)),
        };
        // Empty before the first lease.
        let leases: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let one = |lease: &serde_json::Value| {
            let mac = lease["mac-address"].as_str()?.parse().ok()?;
            Some((mac, lease["ip-address"].as_str()?.parse().ok()?))
        };
        Ok(leases
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(one)
            .collect())
    }

    async fn forget_peers(&self, bridges: &[(String, Cidr)]) -> Result<(), HostNetError> {
        let links = self.links().await?;
        let indices: Vec<u32> = links
            .iter()
            .filter(|link| bridges.iter().any(|(name, _)| *name == link.name))
            .map(|link| link.index)
            .collect();
        talk("forgetting neighbours", async |handle| {
            let neighbours: Vec<_> = handle.neighbours().get().execute().try_collect().await?;
            for neighbour in neighbours {
                if !indices.contains(&neighbour.header.ifindex) {
                    continue;
                }
                match handle.neighbours().del(neighbour).execute().await {
                    // The kernel may have dropped it itself, and keeps those of multicast.
                    Ok(()) | Err(rtnetlink::Error::NetlinkError(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await?;
        for (_, cidr) in bridges {
            for end in ["--orig-src", "--orig-dst"] {
                match tool::run("conntrack", &["-D", end, &cidr.to_string()], None).await {
                    // It says 1 where there was nothing to delete. Not installed: connections run out by themselves.
                    Err(HostNetError::Failed { why, .. }) if why.contains("0 flow entries") => {}
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    async fn clear_leftover(&self, network: &Network) -> Result<bool, HostNetError> {
        let found = self
            .links()
            .await?
            .into_iter()
            .find(|link| link.name == network.bridge && link.mac == Some(network.mac));
        let Some(link) = found else {
            return Ok(false);
        };
        leftover::clear(network).await?;
        let what = format!("removing bridge {}", network.bridge);
        talk(&what, async |handle| {
            handle.link().del(link.index).execute().await
        })
        .await?;
        Ok(true)
    }

    async fn bandwidth(&self, link: &str) -> Result<Bandwidth, HostNetError> {
        bandwidth::of(link).await
    }

    async fn set_bandwidth(&self, link: &str, bandwidth: &Bandwidth) -> Result<(), HostNetError> {
        bandwidth::set(link, bandwidth).await
    }
}

#[async_trait]
impl Firewall for LinuxNet {
    async fn tables(&self) -> Result<Vec<(String, String)>, HostNetError> {
        let Some(output) = nft(&["-j", "list", "tables"]).await? else {
            return Ok(Vec::new());
        };
        let document: serde_json::Value = serde_json::from_slice(&output)
            .map_err(|error| failed("reading nft's tables", &error))?;
        let items = document["nftables"].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .filter_map(|item| {
                Some((
                    item["table"]["family"].as_str()?.to_owned(),
                    item["table"]["name"].as_str()?.to_owned(),
                ))
            })
            .collect())
    }

    async fn hold(&self, table: &str, ports: &[String]) -> Result<(), HostNetError> {
        if ports.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = ports.iter().map(|port| format!("{port:?}")).collect();
        let names = names.join(", ");
        // A port's own state would be quicker; but without STP the kernel makes a port forward again at once. The rules
        // go by port: not every kernel can match the bridge.
        let rules = format!(
            "table bridge {table} {{\n\
             chain forward {{\n type filter hook forward priority -300; policy accept;\n oifname {{ {names} }} drop\n }}\n\
             chain output {{\n type filter hook output priority -300; policy accept;\n oifname {{ {names} }} drop\n }}\n}}\n"
        );
        // All of them or none.
        if tool::run("nft", &["-f", "-"], Some(rules.as_bytes()))
            .await?
            .is_none()
        {
            return Err(failed("nft", &"it is not installed"));
        }
        let found = named(ports).await?;
        talk("dropping what waits for guests", async |handle| {
            for (index, queue) in &found {
                // A tap's ring keeps its packets over anything but this: made shorter, it drops what does not fit.
                for length in [0, *queue] {
                    let mut change = LinkUnspec::new_with_index(*index).build();
                    change.attributes.push(LinkAttribute::TxQueueLen(length));
                    handle.link().set(change).execute().await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn cut(&self, table: &str, chain: &str, cut: &Cut) -> Result<(), HostNetError> {
        cut::make(table, chain, cut).await
    }

    async fn forbid(
        &self,
        table: &str,
        chain: &str,
        forbidden: &Forbidden,
    ) -> Result<(), HostNetError> {
        forward::forbid(table, chain, forbidden).await
    }

    async fn rejections(&self, bridge: &str) -> Result<Vec<Rejection>, HostNetError> {
        forward::rejections(bridge).await
    }

    async fn dropped(&self, table: &str, chain: &str) -> Result<Option<u64>, HostNetError> {
        cut::dropped(table, chain).await
    }

    async fn mend(&self, table: &str, chain: &str) -> Result<(), HostNetError> {
        cut::mend(table, chain).await
    }

    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError> {
        match nft(&["delete", "table", family, name]).await {
            Err(HostNetError::Failed { why, .. }) if why.contains("No such file or directory") => {
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

#[async_trait]
impl Reach for LinuxNet {
    async fn connect(&self, address: Ipv4Addr, port: u16, within: Duration) -> Connection {
        let connecting = tokio::net::TcpStream::connect((address, port));
        match tokio::time::timeout(within, connecting).await {
            Ok(Ok(_)) => Connection::Open,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Connection::Refused
            }
            Ok(Err(error)) => Connection::Unreachable {
                why: error.to_string(),
            },
            Err(_) => Connection::TimedOut,
        }
    }

    async fn get(
        &self,
        address: Ipv4Addr,
        port: u16,
        path: &str,
        within: Duration,
    ) -> Result<Result<Answer, Connection>, HostNetError> {
        // A refusal differs from a host that is out of reach.
        match self.connect(address, port, within).await {
            Connection::Open => {}
            other => return Ok(Err(other)),
        }
        let url = format!("http://{address}:{port}{path}");
        let asked = tokio::task::spawn_blocking(move || http::get(&url, within, ANSWER_BYTES));
        let answer = asked.await.map_err(|error| failed("asking", &error))?;
        match answer {
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                let status = answer.status;
                Ok(Ok(Answer { status, body }))
            }
            Err(HttpError::TimedOut(_)) => Ok(Err(Connection::TimedOut)),
            Err(HttpError::Failed(why)) => Ok(Err(Connection::Unreachable { why })),
        }
    }

    async fn capture(
        &self,
        link: &str,
        filter: &str,
    ) -> Result<Box<dyn PacketCapture>, HostNetError> {
        capture::start(link, filter).await
    }
}

/// Index and queue length of the links of these names.
async fn named(names: &[String]) -> Result<Vec<(u32, u32)>, HostNetError> {
    let messages: Vec<_> = talk("listing links", async |handle| {
        handle.link().get().execute().try_collect().await
    })
    .await?;
    let mut found = Vec::new();
    for message in messages {
        let (mut ours, mut queue) = (false, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => ours = names.contains(name),
                LinkAttribute::TxQueueLen(length) => queue = Some(*length),
                _ => {}
            }
        }
        found.extend(
            queue
                .filter(|_| ours)
                .map(|queue| (message.header.index, queue)),
        );
    }
    Ok(found)
}

/// Runs nft; nothing where it is not installed.
async fn nft(arguments: &[&str]) -> Result<Option<Vec<u8>>, HostNetError> {
    tool::run("nft", arguments, None).await
}
