//! What can be wrong with a topology beyond its format.

use std::net::Ipv4Addr;

use crate::diagnostics::{Problem, Span, codes};
use crate::units::{AddrRange, Cidr, Mac};

/// A mistake in a topology. `Display` says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages beside the variants say what each is and what its fields hold"
)]
pub enum TopologyError {
    #[error("the schema is {found}, and this twin reads twin/topology/v1")]
    Schema { found: String },
    #[error("there is no topology {name} to extend")]
    ExtendsMissing { name: String, near: Option<String> },
    #[error("{name} is not below the directory of this file")]
    ExtendsOutside { name: String },
    #[error("{name} is no topology")]
    ExtendsNoTopology { name: String },
    #[error("{name} extends itself by way of others")]
    ExtendsLoop { name: String },
    #[error("there is not one {what}")]
    Empty { what: &'static str },
    #[error("there is no network {name}")]
    UnknownNetwork { name: String, near: Option<String> },
    #[error("there is no host {name}")]
    UnknownHost { name: String, near: Option<String> },
    #[error("there is no flavor {name}")]
    UnknownFlavor { name: String, near: Option<String> },
    #[error("networks {first} and {second} overlap: {second} has {cidr}")]
    NetworksOverlap {
        first: String,
        second: String,
        cidr: Cidr,
    },
    #[error("{what} {address} is no host address of {network}, which is {cidr}")]
    AddressOutside {
        what: &'static str,
        address: Ipv4Addr,
        network: String,
        cidr: Cidr,
    },
    #[error("{address} lies in none of the networks")]
    AddressNowhere { address: Ipv4Addr },
    #[error("{address} is taken by {holder}")]
    AddressTaken { address: Ipv4Addr, holder: String },
    #[error("{mac} is taken by {holder}")]
    MacTaken { mac: Mac, holder: String },
    #[error("the range {name} is {range}, which leaves {network} with {cidr}")]
    RangeOutside {
        name: String,
        range: AddrRange,
        network: String,
        cidr: Cidr,
    },
    #[error("the ranges {first} and {second} share addresses")]
    RangesOverlap { first: String, second: String },
    #[error("VIP {address} lies in the range {range}, which others hand out from (D-003)")]
    VipInRange { address: Ipv4Addr, range: String },
    #[error("VIP {address} lies outside the range vip, {range} (D-003)")]
    VipOutsideRange { address: Ipv4Addr, range: AddrRange },
    #[error("host {host} has no interface on {network}, where its VIP {address} lies")]
    VipWithoutNic {
        host: String,
        network: String,
        address: Ipv4Addr,
    },
    #[error("network {network} has mode {mode} and no gateway")]
    GatewayMissing { network: String, mode: &'static str },
    #[error("network {network} has mode bridge and names none")]
    BridgeMissing { network: String },
    #[error("{name} is no name for a bridge: {why}")]
    BridgeName { name: String, why: &'static str },
    #[error("bridge {name} belongs to network {holder} already")]
    BridgeTaken { name: String, holder: String },
    #[error("host {host} has default routes on two networks")]
    TwoDefaultRoutes { host: String },
    #[error("the default route of {host} leaves on {network}, which has no gateway")]
    RouteWithoutGateway { host: String, network: String },
    #[error("host {host} has two interfaces on {network}")]
    TwoNicsOnOne { host: String, network: String },
    #[error("{instances} instances stand on {host}, which does not compute")]
    InstancesWithoutCompute { host: String, instances: usize },
    #[error("there is an instance {name} on {holder} already")]
    InstanceTaken { name: String, holder: String },
    #[error("port {port} on {host} is taken by {holder}")]
    PortTaken {
        host: String,
        port: u16,
        holder: String,
    },
    #[error("{host} has the image cloud and no source")]
    SourceMissing { host: String },
    #[error("{host} has a source, which only the image cloud takes")]
    SourceUnused { host: String },
    #[error("{host} has the image {image}, in which nothing plays its {what}")]
    PlaysNothing {
        host: String,
        image: String,
        what: &'static str,
    },
    #[error("{host} boots from the network, and {network} has dhcp: static")]
    PxeWithDhcp { host: String, network: String },
    #[error("{host} has the image {image}, which needs a disk to boot from")]
    DiskMissing { host: String, image: String },
    #[error("{count} interfaces are on {network}, and a Linux bridge has 1024 ports")]
    TooManyPorts { network: String, count: usize },
}

codes! {
    TopologyError:
    Schema => "schema",
    ExtendsMissing => "extends-missing",
    ExtendsOutside => "extends-outside",
    ExtendsNoTopology => "extends-no-topology",
    ExtendsLoop => "extends-loop",
    Empty => "empty",
    UnknownNetwork => "unknown-network",
    UnknownHost => "unknown-host",
    UnknownFlavor => "unknown-flavor",
    NetworksOverlap => "networks-overlap",
    AddressOutside => "address-outside",
    AddressNowhere => "address-nowhere",
    AddressTaken => "address-taken",
    MacTaken => "mac-taken",
    RangeOutside => "range-outside",
    RangesOverlap => "ranges-overlap",
    VipInRange => "vip-in-range",
    VipOutsideRange => "vip-outside-range",
    VipWithoutNic => "vip-without-nic",
    GatewayMissing => "gateway-missing",
    BridgeMissing => "bridge-missing",
    BridgeName => "bridge-name",
    BridgeTaken => "bridge-taken",
    TwoDefaultRoutes => "two-default-routes",
    RouteWithoutGateway => "route-without-gateway",
    TwoNicsOnOne => "two-nics-on-one",
    InstancesWithoutCompute => "instances-without-compute",
    InstanceTaken => "instance-taken",
    PortTaken => "port-taken",
    SourceMissing => "source-missing",
    SourceUnused => "source-unused",
    PlaysNothing => "plays-nothing",
    PxeWithDhcp => "pxe-with-dhcp",
    DiskMissing => "disk-missing",
    TooManyPorts => "too-many-ports",
}

/// What was meant, where something is near enough; another cure elsewhere.
fn near_or(near: Option<&String>, other: &str) -> String {
    near.map_or_else(|| other.to_owned(), |near| format!("did you mean {near}?"))
}

impl TopologyError {
    /// What to do about it.
    fn cure(&self) -> String {
        match self {
            Self::Schema { .. } => "write schema: twin/topology/v1".into(),
            Self::ExtendsMissing { near, .. } => {
                near_or(near.as_ref(), "give a path, or a name below ./topologies")
            }
            Self::ExtendsOutside { .. } => {
                "give a name, or a path that goes down from here; copy the file to where this one is otherwise".into()
            }
            Self::ExtendsNoTopology { .. } => {
                "name a file that begins with schema: twin/topology/v1".into()
            }
            Self::ExtendsLoop { .. } => "remove one of the extends".into(),
            Self::Empty { what } => format!("add a {what}"),
            Self::UnknownNetwork { near, .. } => near_or(near.as_ref(), "add it under networks"),
            Self::UnknownHost { near, .. } => near_or(near.as_ref(), "add it under hosts"),
            Self::UnknownFlavor { near, .. } => near_or(near.as_ref(), "add it under compute: flavors"),
            Self::NetworksOverlap { .. } => "give one of them other addresses".into(),
            Self::AddressOutside { cidr, .. } => format!(
                "take one between {} and {}, both excluded",
                cidr.base(),
                cidr.broadcast()
            ),
            Self::AddressNowhere { .. } => "take one inside a network's cidr".into(),
            Self::AddressTaken { .. } | Self::MacTaken { .. } | Self::PortTaken { .. } => {
                "take another".into()
            }
            Self::RangeOutside { cidr, .. } => {
                format!("keep it between {} and {}", cidr.base(), cidr.broadcast())
            }
            Self::RangesOverlap { .. } => "end one before the other starts".into(),
            Self::VipInRange { .. } => "take one that no range but vip holds".into(),
            Self::VipOutsideRange { range, .. } => format!("take one of {range}"),
            Self::VipWithoutNic { network, .. } => {
                format!("add {{network: {network}}} to the host's nics")
            }
            Self::GatewayMissing { .. } => {
                "add gateway: ADDRESS, this machine's address there".into()
            }
            Self::BridgeMissing { .. } => "add bridge: NAME of a bridge that exists".into(),
            Self::BridgeName { .. } => {
                "1 to 15 characters of a-z, A-Z, 0-9, `-`, `_` and `.`".into()
            }
            Self::BridgeTaken { .. } => "give each network a bridge of its own".into(),
            Self::TwoDefaultRoutes { .. } => "keep default-route: true on one interface".into(),
            Self::RouteWithoutGateway { network, .. } => {
                format!("give {network} a gateway, or the default route another network")
            }
            Self::TwoNicsOnOne { .. } => "remove one of them".into(),
            Self::InstancesWithoutCompute { host, .. } => {
                format!("add compute: true to {host}, or move them")
            }
            Self::InstanceTaken { .. } => "give each instance a name of its own".into(),
            Self::SourceMissing { .. } => {
                "add source: {path: FILE} or {url: URL, sha256: HEX}".into()
            }
            Self::SourceUnused { .. } => "remove it, or write image: cloud".into(),
            Self::PlaysNothing { .. } => {
                "remove it, or give the host an image with twin-guest: micro or debian".into()
            }
            Self::PxeWithDhcp { network, .. } => {
                format!("write dhcp: none on {network}: the PXE server owns it")
            }
            Self::DiskMissing { .. } => "add disk: SIZE".into(),
            Self::TooManyPorts { .. } => "spread the hosts over more networks".into(),
        }
    }

    /// Makes a problem of it.
    pub(crate) fn at(self, span: Span) -> Problem {
        Problem {
            code: self.code(),
            message: self.to_string(),
            span,
            cure: self.cure(),
        }
    }
}
