//! The simulated machine's network.

use async_trait::async_trait;

use super::SimWorld;
use crate::hostnet::{HostNet, HostNetError, Link, Network, Route};
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

    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError> {
        self.0.lock().tables.retain(|(its_family, its_name)| {
            (its_family.as_str(), its_name.as_str()) != (family, name)
        });
        Ok(())
    }
}
