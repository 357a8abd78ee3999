//! The simulated machine's network.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;

use super::SimWorld;
use crate::hostnet::{Connection, Cut, HostNet, HostNetError, Link, Network, Route};
use crate::units::Cidr;

/// The network of a simulated machine.
#[derive(Clone, Debug)]
pub struct SimNet(pub(super) SimWorld);

#[async_trait]
impl HostNet for SimNet {
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

    async fn tables(&self) -> Result<Vec<(String, String)>, HostNetError> {
        Ok(self.0.lock().tables.clone())
    }

    async fn hold(&self, table: &str, _: &[String]) -> Result<(), HostNetError> {
        let held = ("bridge".to_owned(), table.to_owned());
        self.0.lock().tables.push(held);
        Ok(())
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

    async fn cut(&self, _: &str, chain: &str, cut: &Cut) -> Result<(), HostNetError> {
        self.0.lock().cuts.insert(chain.to_owned(), cut.clone());
        Ok(())
    }

    async fn dropped(&self, _: &str, chain: &str) -> Result<Option<u64>, HostNetError> {
        Ok(self.0.lock().cuts.get(chain).map(|_| 0))
    }

    async fn mend(&self, _: &str, chain: &str) -> Result<(), HostNetError> {
        self.0.lock().cuts.remove(chain);
        Ok(())
    }

    async fn connect(&self, address: Ipv4Addr, port: u16, within: Duration) -> Connection {
        let found = {
            let state = self.0.lock();
            let mut domains = state.domains.values();
            domains.find_map(|domain| domain.answers_at(address, port))
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

    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError> {
        self.0.lock().tables.retain(|(its_family, its_name)| {
            (its_family.as_str(), its_name.as_str()) != (family, name)
        });
        Ok(())
    }
}
