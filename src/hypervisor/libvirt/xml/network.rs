//! A network's XML.

use serde::Serialize;

use super::mark::Metadata;
use crate::model::spec::{Marked, NetworkSpec};
use crate::model::{Dhcp, NetworkMode, bridge_mac};

#[derive(Serialize)]
#[serde(rename = "network")]
struct Network {
    name: String,
    uuid: String,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<Forward>,
    bridge: Bridge,
    mac: BridgeMac,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<Ip>,
}

#[derive(Serialize)]
struct Forward {
    #[serde(rename = "@mode")]
    mode: &'static str,
}

#[derive(Serialize)]
struct Bridge {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@stp")]
    stp: &'static str,
    #[serde(rename = "@delay")]
    delay: &'static str,
}

#[derive(Serialize)]
struct BridgeMac {
    #[serde(rename = "@address")]
    address: String,
}

#[derive(Serialize)]
struct Ip {
    #[serde(rename = "@address")]
    address: String,
    #[serde(rename = "@netmask")]
    netmask: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dhcp: Option<DhcpElement>,
}

#[derive(Serialize)]
struct DhcpElement {
    host: Vec<Host>,
}

#[derive(Serialize)]
struct Host {
    #[serde(rename = "@mac")]
    mac: String,
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@ip")]
    ip: String,
}

/// Writes a network's XML. Without STP and delay a port forwards as soon as it is up.
pub(in super::super) fn network(network: &Marked<NetworkSpec>) -> String {
    let spec = &network.spec;
    let mode = match spec.mode {
        NetworkMode::Nat => Some("nat"),
        NetworkMode::Route => Some("route"),
        NetworkMode::Open => Some("open"),
        NetworkMode::Isolated | NetworkMode::Bridge => None,
    };
    let dhcp = (spec.dhcp == Dhcp::Static && !spec.leases.is_empty()).then(|| DhcpElement {
        host: spec
            .leases
            .iter()
            .map(|lease| Host {
                mac: lease.mac.to_string(),
                name: lease.name.clone(),
                ip: lease.address.to_string(),
            })
            .collect(),
    });
    let document = Network {
        name: spec.name.clone(),
        uuid: spec.uuid.to_string(),
        metadata: Metadata::of(&network.mark),
        forward: mode.map(|mode| Forward { mode }),
        bridge: Bridge {
            name: spec.bridge.clone(),
            stp: "off",
            delay: "0",
        },
        mac: BridgeMac {
            address: bridge_mac(spec.uuid).to_string(),
        },
        ip: spec.gateway.map(|gateway| Ip {
            address: gateway.to_string(),
            netmask: spec.cidr.netmask().to_string(),
            dhcp,
        }),
    };
    quick_xml::se::to_string(&document).unwrap_or_default()
}
