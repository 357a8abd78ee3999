//! Networks whose start was cut off.

use super::{Drivers, LabError};
use crate::hostnet::Network;
use crate::hypervisor::Target;
use crate::model::bridge_mac;

/// Starts a network; what is left of a start that was cut off would be in its way.
pub(super) async fn start_network(drivers: &Drivers, target: Target) -> Result<(), LabError> {
    clear(drivers, target).await?;
    Ok(drivers.hypervisor.network.start_network(target).await?)
}

/// Removes what a hypervisor that was killed while it started this network has left of it. A network that is up is not looked
/// at.
pub(super) async fn clear(drivers: &Drivers, target: Target) -> Result<(), LabError> {
    let networks = drivers.hypervisor.inventory.networks().await?;
    let ours = networks.into_iter().find(|network| {
        let mark = network.mark.as_ref();
        network.uuid == target.uuid && mark.is_some_and(|mark| mark.lab.uuid == target.lab)
    });
    if let Some(network) = ours.filter(|network| !network.active)
        && let Some(bridge) = network.bridge
    {
        let left = Network {
            name: network.name,
            bridge,
            mac: bridge_mac(target.uuid),
            cidr: network.cidr,
        };
        drivers.hostnet.links.clear_leftover(&left).await?;
    }
    Ok(())
}
