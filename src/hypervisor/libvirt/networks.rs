//! Calls about networks.

use uuid::Uuid;
use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::network::Network;
use virt::sys;

use super::failure::Failure;
use super::xml;
use crate::hypervisor::{HypervisorError, ObservedNetwork, Target};
use crate::model::Bearing;
use crate::model::spec::{Marked, NetworkSpec};

/// Lists all networks.
pub(super) fn list(connection: &Connect) -> Result<Vec<ObservedNetwork>, Failure> {
    let mut observed = Vec::new();
    for network in connection.list_all_networks(0)? {
        match observe(&network) {
            Ok(network) => observed.push(network),
            Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoNetwork => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(observed)
}

fn observe(network: &Network) -> Result<ObservedNetwork, Failure> {
    let text = description(network)?;
    let (bridge, cidr) = xml::bridge_and_subnet(&text);
    let name = network.get_name()?;
    let uuid = Uuid::try_parse(&network.get_uuid_string()?).unwrap_or_default();
    let bearing = xml::mark(&text).map(|mark| mark.borne_by::<NetworkSpec>(uuid, &name));
    let (mark, foreign_mark) = Bearing::split(bearing);
    Ok(ObservedNetwork {
        name,
        uuid,
        bridge,
        cidr,
        active: network.is_active()?,
        mark,
        foreign_mark,
    })
}

fn description(network: &Network) -> Result<String, Failure> {
    let inactive = if network.is_persistent()? {
        sys::VIR_NETWORK_XML_INACTIVE
    } else {
        0
    };
    // libvirt's test driver knows no flags here.
    Ok(network
        .get_xml_desc(inactive)
        .or_else(|_| network.get_xml_desc(0))?)
}

/// Finds a network and makes sure of its mark.
fn ours(connection: &Connect, target: Target) -> Result<Network, Failure> {
    let network = Network::lookup_by_uuid_string(connection, &target.uuid.to_string())?;
    let name = network.get_name()?;
    let mark = xml::mark(&description(&network)?);
    match mark.map(|mark| mark.borne_by::<NetworkSpec>(target.uuid, &name)) {
        Some(Bearing::Own(mark)) if mark.lab.uuid == target.lab => Ok(network),
        _ => Err(HypervisorError::NotOurs {
            what: format!("network {name}"),
        }
        .into()),
    }
}

/// Defines a network.
pub(super) fn define(connection: &Connect, network: &Marked<NetworkSpec>) -> Result<(), Failure> {
    let target = Target {
        uuid: network.spec.uuid,
        lab: network.mark.lab.uuid,
    };
    match ours(connection, target) {
        Ok(_) => {}
        Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoNetwork => {}
        Err(failure) => return Err(failure),
    }
    let defined = Network::define_xml(connection, &xml::network(network))?;
    // libvirt's test driver cannot have networks started at boot.
    if defined
        .get_autostart()
        .is_ok_and(|is| is != network.spec.autostart)
    {
        defined.set_autostart(network.spec.autostart)?;
    }
    Ok(())
}

/// Brings a network up.
pub(super) fn start(connection: &Connect, target: Target) -> Result<(), Failure> {
    let network = ours(connection, target)?;
    if !network.is_active()? {
        network.create()?;
    }
    Ok(())
}

/// Removes a network.
pub(super) fn remove(connection: &Connect, target: Target) -> Result<(), Failure> {
    let network = match ours(connection, target) {
        Err(Failure::Libvirt(error)) if error.code() == ErrorNumber::NoNetwork => return Ok(()),
        other => other?,
    };
    if network.is_active()? {
        network.destroy()?;
    }
    if network.is_persistent()? {
        network.undefine()?;
    }
    Ok(())
}
