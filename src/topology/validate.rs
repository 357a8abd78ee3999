//! Checks of a topology's parts against each other. What depends on the machine is checked when the lab is planned.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::TopologyError;
use super::parse::Parsed;
use crate::diagnostics::{Reader, nearest};
use crate::model::{Dhcp, Host, Network, NetworkMode, Topology};
use crate::units::Mac;

/// Ports of one Linux bridge (kernel: `BR_MAX_PORTS`).
const BRIDGE_PORTS: usize = 1024;

/// The kernel's `IFNAMSIZ` less the terminator.
const INTERFACE_NAME_LENGTH: usize = 15;

struct Validator<'p> {
    parsed: &'p Parsed,
    topology: &'p Topology,
    reader: &'p mut Reader,
}

/// Checks everything and notes every problem.
pub(super) fn validate(parsed: &Parsed, reader: &mut Reader) {
    let mut validator = Validator {
        parsed,
        topology: &parsed.topology,
        reader,
    };
    validator.empty();
    validator.networks();
    validator.hosts();
    validator.vips();
    validator.polled();
    validator.addresses();
    validator.instances();
}

/// Whether twin-guest is in an image, which plays what a host is to run.
fn plays(image: &str) -> bool {
    !["cloud", "pxe"].contains(&image)
}

fn plays_nothing(host: &Host, what: &'static str) -> TopologyError {
    TopologyError::PlaysNothing {
        host: host.name.to_string(),
        image: host.image.to_string(),
        what,
    }
}

fn near<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    nearest(name, candidates).map(str::to_owned)
}

impl Validator<'_> {
    fn wrong(&mut self, path: &str, error: TopologyError) {
        self.reader.wrong(error.at(self.parsed.span(path)));
    }

    /// Reports what a mapping lacks a key for, unless the key is there and misspelt.
    fn missing(&mut self, path: &str, key: &str, error: TopologyError) {
        if !self.reader.is_misspelt(path, key) {
            self.wrong(path, error);
        }
    }

    fn empty(&mut self) {
        // A file whose every host was wrong has hosts: only an empty mapping is empty.
        let complete = self.reader.problems.is_empty();
        if complete && self.topology.hosts.is_empty() {
            self.wrong("hosts", TopologyError::Empty { what: "host" });
        }
        if complete && self.topology.networks.is_empty() {
            self.wrong("networks", TopologyError::Empty { what: "network" });
        }
    }

    fn networks(&mut self) {
        let topology = self.topology;
        let mut bridges: BTreeMap<&str, &str> = BTreeMap::new();
        for (index, network) in topology.networks.iter().enumerate() {
            let path = format!("networks.{}", network.name);
            for earlier in &topology.networks[..index] {
                if earlier.cidr.overlaps(network.cidr) {
                    let (first, second) = (earlier.name.to_string(), network.name.to_string());
                    self.wrong(
                        &format!("{path}.cidr"),
                        TopologyError::NetworksOverlap {
                            first,
                            second,
                            cidr: network.cidr,
                        },
                    );
                }
            }
            self.gateway(network, &path);
            self.ranges(network, &path);
            self.bridge(network, &path, &mut bridges);
        }
    }

    fn gateway(&mut self, network: &Network, path: &str) {
        let name = network.name.to_string();
        match (network.gateway, network.mode) {
            (Some(address), _) if !network.cidr.is_host(address) => {
                let error = TopologyError::AddressOutside {
                    what: "the gateway",
                    address,
                    network: name,
                    cidr: network.cidr,
                };
                self.wrong(&format!("{path}.gateway"), error);
            }
            (None, NetworkMode::Nat) => self.without_gateway(path, name, "nat"),
            (None, NetworkMode::Route) => self.without_gateway(path, name, "route"),
            (None, NetworkMode::Open) => self.without_gateway(path, name, "open"),
            _ => {}
        }
    }

    fn without_gateway(&mut self, path: &str, network: String, mode: &'static str) {
        let error = TopologyError::GatewayMissing { network, mode };
        self.missing(path, "gateway", error);
    }

    fn ranges(&mut self, network: &Network, path: &str) {
        let ranges: Vec<_> = network.ranges.iter().collect();
        for (index, (name, range)) in ranges.iter().enumerate() {
            let path = format!("{path}.ranges.{name}");
            if !network.cidr.contains(range.first) || !network.cidr.contains(range.last) {
                let error = TopologyError::RangeOutside {
                    name: name.to_string(),
                    range: **range,
                    network: network.name.to_string(),
                    cidr: network.cidr,
                };
                self.wrong(&path, error);
            }
            for (earlier, _) in ranges[..index]
                .iter()
                .filter(|(_, earlier)| earlier.overlaps(**range))
            {
                self.wrong(
                    &path,
                    TopologyError::RangesOverlap {
                        first: earlier.to_string(),
                        second: name.to_string(),
                    },
                );
            }
        }
    }

    fn bridge<'t>(
        &mut self,
        network: &'t Network,
        path: &str,
        taken: &mut BTreeMap<&'t str, &'t str>,
    ) {
        let Some(bridge) = &network.bridge else {
            if network.mode == NetworkMode::Bridge {
                let network = network.name.to_string();
                self.missing(path, "bridge", TopologyError::BridgeMissing { network });
            }
            return;
        };
        let path = format!("{path}.bridge");
        let allowed =
            |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        let why = if bridge.is_empty() || bridge.len() > INTERFACE_NAME_LENGTH {
            Some("its length")
        } else if !bridge.chars().all(allowed) {
            Some("a character that is not allowed")
        } else if bridge == "." || bridge == ".." {
            Some("the kernel refuses it")
        } else {
            None
        };
        if let Some(why) = why {
            self.wrong(
                &path,
                TopologyError::BridgeName {
                    name: bridge.clone(),
                    why,
                },
            );
        }
        if let Some(holder) = taken.insert(bridge, network.name.as_str()) {
            self.wrong(
                &path,
                TopologyError::BridgeTaken {
                    name: bridge.clone(),
                    holder: holder.to_owned(),
                },
            );
        }
    }

    fn hosts(&mut self) {
        let topology = self.topology;
        for host in &topology.hosts {
            let path = format!("hosts.{}", host.name);
            self.image(host, &path);
            self.nics(host, &path);
            let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
            let services = host
                .services
                .iter()
                .map(|one| (one.name.as_str(), &one.ports));
            let instances = host
                .instances
                .iter()
                .map(|one| (one.name.as_str(), &one.ports));
            let (services, instances) = (services.enumerate(), instances.enumerate());
            let all = services
                .map(|(index, one)| (format!("{path}.services.{index}.ports"), one))
                .chain(
                    instances.map(|(index, one)| (format!("{path}.instances.{index}.ports"), one)),
                );
            for (path, (name, wanted)) in all {
                for port in wanted {
                    if let Some(holder) = ports.insert(*port, name) {
                        let error = TopologyError::PortTaken {
                            host: host.name.to_string(),
                            port: *port,
                            holder: holder.to_owned(),
                        };
                        self.wrong(&path, error);
                    }
                }
            }
        }
        for network in &topology.networks {
            let count = topology
                .hosts
                .iter()
                .flat_map(|host| &host.nics)
                .filter(|nic| nic.network == network.name)
                .count();
            if count > BRIDGE_PORTS {
                let error = TopologyError::TooManyPorts {
                    network: network.name.to_string(),
                    count,
                };
                self.wrong(&format!("networks.{}", network.name), error);
            }
        }
    }

    fn image(&mut self, host: &Host, path: &str) {
        let name = host.name.to_string();
        let image = host.image.as_str();
        match (image, &host.source) {
            ("cloud", None) => {
                self.missing(
                    path,
                    "source",
                    TopologyError::SourceMissing { host: name.clone() },
                );
            }
            ("cloud", Some(_)) | (_, None) => {}
            (_, Some(_)) => self.wrong(
                &format!("{path}.source"),
                TopologyError::SourceUnused { host: name.clone() },
            ),
        }
        if !plays(image) {
            let has = [
                ("services", !host.services.is_empty()),
                ("instances", !host.instances.is_empty()),
                ("compute", host.compute),
            ];
            for (what, _) in has.into_iter().filter(|(_, has)| *has) {
                let error = plays_nothing(host, what);
                self.wrong(&format!("{path}.{what}"), error);
            }
        }
        if host.disks.is_empty() && image != "micro" {
            self.wrong(
                path,
                TopologyError::DiskMissing {
                    host: name.clone(),
                    image: image.to_owned(),
                },
            );
        }
        if image == "pxe"
            && let Some(first) = host.nics.first()
            && let Some(network) = self.topology.network(first.network.as_str())
            && network.dhcp == Dhcp::Static
        {
            self.wrong(
                &format!("{path}.nics"),
                TopologyError::PxeWithDhcp {
                    host: name,
                    network: network.name.to_string(),
                },
            );
        }
    }

    fn nics(&mut self, host: &Host, path: &str) {
        let topology = self.topology;
        let mut routes = 0;
        for (index, nic) in host.nics.iter().enumerate() {
            let path = format!("{path}.nics.{index}");
            let Some(network) = topology.network(nic.network.as_str()) else {
                let name = nic.network.to_string();
                let near = near(
                    &name,
                    topology
                        .networks
                        .iter()
                        .map(|network| network.name.as_str()),
                );
                self.wrong(
                    &format!("{path}.network"),
                    TopologyError::UnknownNetwork { name, near },
                );
                continue;
            };
            if host.nics[..index]
                .iter()
                .any(|earlier| earlier.network == nic.network)
            {
                let error = TopologyError::TwoNicsOnOne {
                    host: host.name.to_string(),
                    network: network.name.to_string(),
                };
                self.wrong(&path, error);
            }
            if let Some(address) = nic.address
                && !network.cidr.is_host(address)
            {
                let error = TopologyError::AddressOutside {
                    what: "the address",
                    address,
                    network: network.name.to_string(),
                    cidr: network.cidr,
                };
                self.wrong(&format!("{path}.address"), error);
            }
            routes += usize::from(nic.default_route);
            let place = format!("networks.{}", network.name);
            let misspelt = self.reader.is_misspelt(&place, "gateway");
            if nic.default_route && network.gateway.is_none() && !misspelt {
                let error = TopologyError::RouteWithoutGateway {
                    host: host.name.to_string(),
                    network: network.name.to_string(),
                };
                self.wrong(&path, error);
            }
        }
        if routes > 1 {
            self.wrong(
                &format!("{path}.nics"),
                TopologyError::TwoDefaultRoutes {
                    host: host.name.to_string(),
                },
            );
        }
    }

    fn vips(&mut self) {
        let topology = self.topology;
        for vip in &topology.vips {
            let path = format!("vips.{}", vip.name);
            let Some(network) = topology.network(vip.network.as_str()) else {
                continue;
            };
            if !network.cidr.is_host(vip.address) {
                let error = TopologyError::AddressOutside {
                    what: "the VIP",
                    address: vip.address,
                    network: network.name.to_string(),
                    cidr: network.cidr,
                };
                self.wrong(&format!("{path}.address"), error);
            }
            for (name, range) in &network.ranges {
                let inside = range.contains(vip.address);
                if name.as_str() == "vip" && !inside {
                    let error = TopologyError::VipOutsideRange {
                        address: vip.address,
                        range: *range,
                    };
                    self.wrong(&format!("{path}.address"), error);
                } else if name.as_str() != "vip" && inside {
                    let error = TopologyError::VipInRange {
                        address: vip.address,
                        range: name.to_string(),
                    };
                    self.wrong(&format!("{path}.address"), error);
                }
            }
            match topology.host(vip.host.as_str()) {
                Some(host) if !plays(host.image.as_str()) => {
                    self.wrong(&format!("{path}.host"), plays_nothing(host, "VIPs"));
                }
                None => {
                    let name = vip.host.to_string();
                    let near = near(&name, topology.hosts.iter().map(|host| host.name.as_str()));
                    self.wrong(
                        &format!("{path}.host"),
                        TopologyError::UnknownHost { name, near },
                    );
                }
                Some(host) if !host.nics.iter().any(|nic| nic.network == vip.network) => {
                    let error = TopologyError::VipWithoutNic {
                        host: host.name.to_string(),
                        network: network.name.to_string(),
                        address: vip.address,
                    };
                    self.wrong(&path, error);
                }
                Some(_) => {}
            }
        }
    }

    /// What is polled lies in a network.
    fn polled(&mut self) {
        let topology = self.topology;
        let of_hosts = topology.hosts.iter().flat_map(|host| {
            let services = host.services.iter().enumerate();
            services.map(|(index, service)| {
                let path = format!("hosts.{}.services.{index}.polls", host.name);
                (path, service.polls)
            })
        });
        let of_vips = topology.vips.iter();
        let of_vips = of_vips.map(|vip| (format!("vips.{}.polls", vip.name), vip.polls));
        let polled = of_hosts.chain(of_vips);
        for (path, polled) in polled.filter_map(|(path, polled)| Some((path, polled?))) {
            let address = *polled.ip();
            let mut networks = topology.networks.iter();
            if !networks.any(|network| network.cidr.contains(address)) {
                let path = format!("{path}.address");
                self.wrong(&path, TopologyError::AddressNowhere { address });
            }
        }
    }

    /// No address and no MAC is given out twice.
    fn addresses(&mut self) {
        let topology = self.topology;
        let mut addresses: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        let mut macs: BTreeMap<Mac, String> = BTreeMap::new();
        for network in &topology.networks {
            if let Some(gateway) = network.gateway {
                addresses
                    .entry(gateway)
                    .or_insert_with(|| format!("the gateway of {}", network.name));
            }
        }
        for host in &topology.hosts {
            for (index, nic) in host.nics.iter().enumerate() {
                let path = format!("hosts.{}.nics.{index}", host.name);
                if let Some(address) = nic.address {
                    match addresses.get(&address).cloned() {
                        Some(holder) => self.wrong(
                            &format!("{path}.address"),
                            TopologyError::AddressTaken { address, holder },
                        ),
                        None => drop(addresses.insert(address, host.name.to_string())),
                    }
                }
                if let Some(mac) = nic.mac {
                    match macs.get(&mac).cloned() {
                        Some(holder) => self.wrong(
                            &format!("{path}.mac"),
                            TopologyError::MacTaken { mac, holder },
                        ),
                        None => drop(macs.insert(mac, host.name.to_string())),
                    }
                }
            }
        }
        for vip in &topology.vips {
            match addresses.get(&vip.address).cloned() {
                Some(holder) => {
                    let error = TopologyError::AddressTaken {
                        address: vip.address,
                        holder,
                    };
                    self.wrong(&format!("vips.{}.address", vip.name), error);
                }
                None => drop(addresses.insert(vip.address, format!("the VIP {}", vip.name))),
            }
        }
    }

    fn instances(&mut self) {
        let topology = self.topology;
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for host in &topology.hosts {
            let path = format!("hosts.{}.instances", host.name);
            if !host.compute && !host.instances.is_empty() {
                let error = TopologyError::InstancesWithoutCompute {
                    host: host.name.to_string(),
                    instances: host.instances.len(),
                };
                self.wrong(&path, error);
            }
            for (index, instance) in host.instances.iter().enumerate() {
                if !topology.compute.flavors.contains_key(&instance.flavor) {
                    let name = instance.flavor.to_string();
                    let near = near(
                        &name,
                        topology
                            .compute
                            .flavors
                            .keys()
                            .map(crate::units::Name::as_str),
                    );
                    self.wrong(
                        &format!("{path}.{index}.flavor"),
                        TopologyError::UnknownFlavor { name, near },
                    );
                }
                if let Some(holder) = names.insert(instance.name.as_str(), host.name.as_str()) {
                    let error = TopologyError::InstanceTaken {
                        name: instance.name.to_string(),
                        holder: holder.to_owned(),
                    };
                    self.wrong(&format!("{path}.{index}.name"), error);
                }
            }
        }
    }
}
