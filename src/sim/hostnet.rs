//! The simulated machine's network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;

use super::SimWorld;
use crate::hostnet::{
    Answer, Bandwidth, Captured, Connection, Cut, Firewall, Forbidden, HostNetError, Link, Links,
    Network, PacketCapture, Reach, Rejection, Route,
};
use crate::units::{Cidr, Mac};

/// The families in which the tables of a cut are.
const CUT_FAMILIES: [&str; 2] = ["bridge", "inet"];

/// The network of a simulated machine.
#[derive(Clone, Debug)]
pub struct SimNet(pub(super) SimWorld);

#[derive(Debug)]
struct NoPackets;

impl PacketCapture for NoPackets {
    fn captured(&self) -> Captured {
        Captured::default()
    }
}

#[async_trait]
impl Links for SimNet {
    async fn links(&self) -> Result<Vec<Link>, HostNetError> {
        Ok(self.0.lock().links.values().cloned().collect())
    }

    async fn routes(&self) -> Result<Vec<Route>, HostNetError> {
        let state = self.0.lock();
        let routes = state.links.values().flat_map(|link| {
            link.addresses.iter().map(|(address, prefix)| Route {
                destination: Some(Cidr::holding(*address, *prefix)),
                link: Some(link.name.clone()),
            })
        });
        Ok(routes.collect())
    }

    async fn set_alias(&self, link: &str, alias: &str) -> Result<(), HostNetError> {
        let mut state = self.0.lock();
        let found = state.links.get_mut(link);
        let found = found.ok_or_else(|| HostNetError::NotFound {
            what: format!("link {link}"),
        })?;
        found.alias = Some(alias.to_owned());
        Ok(())
    }

    /// Simulated guests have the addresses that they were told, and ask for none.
    async fn leases(&self, _: &str) -> Result<Vec<(Mac, Ipv4Addr)>, HostNetError> {
        Ok(Vec::new())
    }

    async fn forget_peers(&self, _: &[(String, Cidr)]) -> Result<(), HostNetError> {
        Ok(())
    }

    async fn clear_leftover(&self, network: &Network) -> Result<bool, HostNetError> {
        let mut state = self.0.lock();
        let ours = state
            .links
            .get(&network.bridge)
            .is_some_and(|link| link.mac == Some(network.mac));
        if ours {
            state.links.remove(&network.bridge);
        }
        Ok(ours)
    }

    async fn bandwidth(&self, link: &str) -> Result<Bandwidth, HostNetError> {
        let found = self.0.lock().bandwidths.get(link).cloned();
        Ok(found.unwrap_or(Bandwidth::Unlimited { queue: false }))
    }

    async fn set_bandwidth(&self, link: &str, bandwidth: &Bandwidth) -> Result<(), HostNetError> {
        let bandwidths = &mut self.0.lock().bandwidths;
        match bandwidth {
            Bandwidth::Unlimited { queue: false } => bandwidths.remove(link),
            other => bandwidths.insert(link.to_owned(), other.clone()),
        };
        Ok(())
    }
}

#[async_trait]
impl Firewall for SimNet {
    async fn tables(&self) -> Result<Vec<(String, String)>, HostNetError> {
        let state = self.0.lock();
        let cut: BTreeSet<&str> = state.cuts.keys().map(|(table, _)| table.as_str()).collect();
        let of_cuts = cut
            .iter()
            .flat_map(|table| CUT_FAMILIES.map(|family| (family.to_owned(), (*table).to_owned())));
        Ok(state.tables.iter().cloned().chain(of_cuts).collect())
    }

    async fn hold(&self, table: &str, _: &[String]) -> Result<(), HostNetError> {
        let held = ("bridge".to_owned(), table.to_owned());
        let tables = &mut self.0.lock().tables;
        if !tables.contains(&held) {
            tables.push(held);
        }
        Ok(())
    }

    async fn cut(&self, table: &str, chain: &str, cut: &Cut) -> Result<(), HostNetError> {
        let cuts = &mut self.0.lock().cuts;
        cuts.insert((table.to_owned(), chain.to_owned()), cut.clone());
        Ok(())
    }

    async fn forbid(&self, table: &str, chain: &str, _: &Forbidden) -> Result<(), HostNetError> {
        self.cut(table, chain, &Cut::default()).await
    }

    async fn rejections(&self, _: &str) -> Result<Vec<Rejection>, HostNetError> {
        Ok(Vec::new())
    }

    async fn dropped(&self, table: &str, chain: &str) -> Result<Option<u64>, HostNetError> {
        let cut = (table.to_owned(), chain.to_owned());
        Ok(self.0.lock().cuts.get(&cut).map(|_| 0))
    }

    async fn mend(&self, table: &str, chain: &str) -> Result<(), HostNetError> {
        let cut = (table.to_owned(), chain.to_owned());
        self.0.lock().cuts.remove(&cut);
        Ok(())
    }

    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError> {
        let mut state = self.0.lock();
        state.tables.retain(|(its_family, its_name)| {
            (its_family.as_str(), its_name.as_str()) != (family, name)
        });
        if CUT_FAMILIES.contains(&family) {
            state.cuts.retain(|(table, _), _| table != name);
        }
        Ok(())
    }
}

#[async_trait]
impl Reach for SimNet {
    async fn connect(&self, address: Ipv4Addr, port: u16, within: Duration) -> Connection {
        let found = {
            let state = self.0.lock();
            state.answers_at(address, port)
        };
        match found {
            Some(true) => Connection::Open,
            Some(false) => Connection::Refused,
            None => {
                tokio::time::sleep(within).await;
                Connection::TimedOut
            }
        }
    }

    /// What is open answers; one that polls says whether what it polls answers now, and others nothing.
    async fn get(
        &self,
        address: Ipv4Addr,
        port: u16,
        _: &str,
        within: Duration,
    ) -> Result<Result<Answer, Connection>, HostNetError> {
        Ok(match self.connect(address, port, within).await {
            Connection::Open => Ok(Answer {
                status: 200,
                body: self.0.lock().polled_by(address, port),
            }),
            other => Err(other),
        })
    }

    /// No packets are simulated.
    async fn capture(&self, _: &str, _: &str) -> Result<Box<dyn PacketCapture>, HostNetError> {
        Ok(Box::new(NoPackets))
    }
}
