//! A tree to a topology, before anything is checked against anything else.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::SocketAddrV4;
use std::str::FromStr;

use super::TopologyError;
use crate::diagnostics::{Fields, Node, Reader, Span, Value};
use crate::model::{
    Baseline, Compute, Dhcp, Disk, Host, Instance, Network, NetworkMode, Nic, Policy, RamBacking,
    Service, Topology, Vip,
};
use crate::units::{AddrRange, Mib, Name};

/// A topology with the places of its parts, by path: `hosts.openstack0.nics.1.address`.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) topology: Topology,
    spans: HashMap<String, Span>,
}

impl Parsed {
    /// Returns the place of `path`, or of the nearest part above it that is known.
    pub(super) fn span(&self, path: &str) -> Span {
        let mut path = path;
        loop {
            if let Some(span) = self.spans.get(path) {
                return *span;
            }
            let Some((parent, _)) = path.rsplit_once('.') else {
                return Span::default();
            };
            path = parent;
        }
    }
}

/// The gates that a baseline can name.
const GATES: &[(&str, &str)] = &[
    ("services-healthy", "services-healthy"),
    ("no-dirty-run", "no-dirty-run"),
];

struct Parser<'r> {
    reader: &'r mut Reader,
    spans: HashMap<String, Span>,
}

/// Parses the whole file. `stem` is the file's name without ending, the topology's name where it gives none.
pub(super) fn topology(root: &Node, stem: &str, reader: &mut Reader) -> Option<Parsed> {
    let mut parser = Parser {
        reader,
        spans: HashMap::new(),
    };
    let topology = parser.topology(root, stem)?;
    Some(Parsed {
        topology,
        spans: parser.spans,
    })
}

/// What hosts get that do not say otherwise.
#[derive(Clone)]
struct Defaults {
    image: Name,
    vcpus: u32,
    memory: Mib,
    disk: Mib,
    ram: RamBacking,
}

impl Parser<'_> {
    fn topology(&mut self, root: &Node, stem: &str) -> Option<Topology> {
        let mut fields = self.reader.fields(root, "the topology")?;
        if let Some(node) = fields.required("schema", self.reader)
            && let Some(schema) = self.reader.scalar::<String>(node, "schema")
            && schema != "twin/topology/v1"
        {
            self.reader
                .wrong(TopologyError::Schema { found: schema }.at(node.span));
        }
        fields.optional("extends");
        let name = match fields.optional("name") {
            Some(node) => self.reader.scalar(node, "name"),
            None => stem.parse().ok(),
        };
        if name.is_none() {
            fields.required("name", self.reader);
        }
        let defaults = self.defaults(fields.optional("defaults"));
        let (networks, hosts) = (
            fields.required("networks", self.reader),
            fields.required("hosts", self.reader),
        );
        let networks = self.named(networks, "networks", Self::network);
        let hosts = self.named(hosts, "hosts", |parser, name, node, path| {
            parser.host(name, node, path, &defaults)
        });
        let vips = self.named(
            fields.optional("vips"),
            "vips",
            |parser, name, node, path| parser.vip(name, node, path, &networks),
        );
        let compute = fields
            .optional("compute")
            .map_or_else(Compute::default, |node| self.compute(node));
        let policy = self.policy(fields.optional("policy"));
        let baselines = self.named(fields.optional("baselines"), "baselines", Self::baseline);
        fields.finish(self.reader);
        Some(Topology {
            name: name?,
            networks,
            hosts,
            vips,
            compute,
            policy,
            baselines,
        })
    }

    /// Reads a mapping of names to things.
    fn named<T>(
        &mut self,
        node: Option<&Node>,
        place: &str,
        mut one: impl FnMut(&mut Self, Name, &Node, &str) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = node else { return Vec::new() };
        self.spans.insert(place.to_owned(), node.span);
        let Some(entries) = self.reader.entries(node, &place) else {
            return Vec::new();
        };
        let mut things = Vec::new();
        for (key, node) in entries {
            let Some(name) = self.reader.key::<Name>(key, "name") else {
                continue;
            };
            let path = format!("{place}.{name}");
            self.spans.insert(path.clone(), key.span);
            things.extend(one(self, name, node, &path));
        }
        things
    }

    /// Takes an optional scalar and remembers its place.
    fn scalar<T: FromStr>(
        &mut self,
        fields: &mut Fields<'_>,
        key: &'static str,
        path: &str,
        wanted: &str,
    ) -> Option<T>
    where
        T::Err: Display,
    {
        let node = fields.optional(key)?;
        self.spans.insert(format!("{path}.{key}"), node.span);
        self.reader.scalar(node, wanted)
    }

    /// Takes a scalar that has to be there and remembers its place.
    fn needed<T: FromStr>(
        &mut self,
        fields: &mut Fields<'_>,
        key: &'static str,
        path: &str,
        wanted: &str,
    ) -> Option<T>
    where
        T::Err: Display,
    {
        let node = fields.required(key, self.reader)?;
        self.spans.insert(format!("{path}.{key}"), node.span);
        self.reader.scalar(node, wanted)
    }

    fn choice<T: Copy>(
        &mut self,
        fields: &mut Fields<'_>,
        key: &'static str,
        wanted: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let node = fields.optional(key)?;
        self.reader.choice(node, wanted, words)
    }

    fn network(&mut self, name: Name, node: &Node, path: &str) -> Option<Network> {
        let mut fields = self.reader.fields(node, path)?;
        let modes = [
            ("nat", NetworkMode::Nat),
            ("route", NetworkMode::Route),
            ("open", NetworkMode::Open),
            ("isolated", NetworkMode::Isolated),
            ("bridge", NetworkMode::Bridge),
        ];
        let mode = self
            .choice(&mut fields, "mode", "mode", &modes)
            .unwrap_or(NetworkMode::Isolated);
        let dhcp = self.choice(
            &mut fields,
            "dhcp",
            "dhcp",
            &[("static", Dhcp::Static), ("none", Dhcp::None)],
        );
        let bridge = self.scalar(&mut fields, "bridge", path, "bridge");
        let gateway = self.scalar(&mut fields, "gateway", path, "address");
        let ranges_path = format!("{path}.ranges");
        let ranges: Vec<(Name, AddrRange)> = self.named(
            fields.optional("ranges"),
            &ranges_path,
            |parser, name, node, path| {
                parser.spans.insert(path.to_owned(), node.span);
                Some((name, parser.reader.scalar(node, "range")?))
            },
        );
        let cidr = self.needed(&mut fields, "cidr", path, "network");
        fields.finish(self.reader);
        let dhcp = dhcp.unwrap_or(Dhcp::None);
        Some(Network {
            name,
            bridge,
            cidr: cidr?,
            gateway,
            mode,
            dhcp,
            ranges: ranges.into_iter().collect(),
        })
    }

    fn defaults(&mut self, node: Option<&Node>) -> Defaults {
        let built_in = Defaults {
            image: "micro".parse().expect("a name"),
            vcpus: 1,
            memory: Mib(1024),
            disk: Mib(4096),
            ram: RamBacking::File,
        };
        let Some(node) = node else { return built_in };
        let Some(mut fields) = self.reader.fields(node, "defaults") else {
            return built_in;
        };
        let defaults = self.sizes(&mut fields, "defaults", &built_in);
        fields.finish(self.reader);
        defaults
    }

    /// Reads what both `defaults` and a host may say.
    fn sizes(&mut self, fields: &mut Fields<'_>, path: &str, defaults: &Defaults) -> Defaults {
        if let Some(node) = fields.optional("swap")
            && let Some(text) = self.reader.scalar::<String>(node, "size")
            && text != "0"
        {
            self.reader.bad_value(
                node,
                &text,
                "swap",
                &"this version makes guests without swap, so it is 0",
            );
        }
        let ram = self.choice(
            fields,
            "ram",
            "ram",
            &[("file", RamBacking::File), ("anon", RamBacking::Anon)],
        );
        let vcpus = fields.optional("vcpus").and_then(|node| {
            let count: u32 = self.reader.scalar(node, "number of CPUs")?;
            if !(1..=512).contains(&count) {
                self.reader
                    .bad_value(node, &count, "number of CPUs", &"it is between 1 and 512");
            }
            Some(count)
        });
        let memory = fields.optional("memory").and_then(|node| {
            let size: Mib = self.reader.scalar(node, "size")?;
            if size < Mib(64) {
                self.reader
                    .bad_value(node, &size, "memory", &"a host has at least 64MiB");
            }
            Some(size)
        });
        Defaults {
            image: self
                .scalar(fields, "image", path, "image")
                .unwrap_or_else(|| defaults.image.clone()),
            vcpus: vcpus.unwrap_or(defaults.vcpus),
            memory: memory.unwrap_or(defaults.memory),
            disk: self
                .scalar(fields, "disk", path, "size")
                .unwrap_or(defaults.disk),
            ram: ram.unwrap_or(defaults.ram),
        }
    }

    fn host(&mut self, name: Name, node: &Node, path: &str, defaults: &Defaults) -> Option<Host> {
        let mut fields = self.reader.fields(node, path)?;
        let sizes = self.sizes(&mut fields, path, defaults);
        let extra_disks: Vec<Disk> = match fields.optional("disks") {
            None => Vec::new(),
            Some(node) => {
                let items = self.reader.items(node);
                items
                    .iter()
                    .filter_map(|item| {
                        Some(Disk {
                            size: self.reader.scalar(item, "size")?,
                        })
                    })
                    .collect()
            }
        };
        let first = (sizes.disk > Mib(0)).then_some(Disk { size: sizes.disk });
        let compute = self
            .choice(
                &mut fields,
                "compute",
                "compute",
                &[("true", true), ("false", false)],
            )
            .unwrap_or(false);
        let source = fields.optional("source").and_then(|node| {
            self.spans.insert(format!("{path}.source"), node.span);
            self.source(node)
        });
        let nics = self.list(&mut fields, "nics", path, Self::nic);
        let services = self.list(&mut fields, "services", path, Self::service);
        let instances = self.list(&mut fields, "instances", path, Self::instance);
        fields.finish(self.reader);
        Some(Host {
            name,
            image: sizes.image,
            source,
            vcpus: sizes.vcpus,
            memory: sizes.memory,
            ram: sizes.ram,
            disks: first.into_iter().chain(extra_disks).collect(),
            nics,
            services,
            compute,
            instances,
        })
    }

    /// Reads a list of things.
    fn list<T>(
        &mut self,
        fields: &mut Fields<'_>,
        key: &'static str,
        path: &str,
        one: fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = fields.optional(key) else {
            return Vec::new();
        };
        self.spans.insert(format!("{path}.{key}"), node.span);
        let items = self.reader.items(node);
        let mut things = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}.{key}.{index}");
            self.spans.insert(path.clone(), item.span);
            things.extend(one(self, item, &path));
        }
        things
    }

    fn nic(&mut self, node: &Node, path: &str) -> Option<Nic> {
        let mut fields = self.reader.fields(node, "the interface")?;
        let network = self.needed(&mut fields, "network", path, "network name");
        let address = self.scalar(&mut fields, "address", path, "address");
        let mac = self.scalar(&mut fields, "mac", path, "MAC");
        let default_route = self.choice(
            &mut fields,
            "default-route",
            "default-route",
            &[("true", true), ("false", false)],
        );
        fields.finish(self.reader);
        Some(Nic {
            network: network?,
            address,
            mac,
            default_route: default_route.unwrap_or(false),
        })
    }

    fn service(&mut self, node: &Node, path: &str) -> Option<Service> {
        let mut fields = self.reader.fields(node, "the service")?;
        let name = self.needed(&mut fields, "name", path, "name");
        let memory = self.needed(&mut fields, "memory", path, "size");
        let ports = self.list(&mut fields, "ports", path, |parser, item, _| {
            parser.reader.scalar(item, "port")
        });
        let oom_score_adj = fields.optional("oom-score-adj").and_then(|node| {
            let adj: i16 = self.reader.scalar(node, "oom-score-adj")?;
            if !(-1000..=1000).contains(&adj) {
                self.reader
                    .bad_value(node, &adj, "oom-score-adj", &"it is between -1000 and 1000");
            }
            Some(adj)
        });
        let polls = self.polls(&mut fields, path);
        fields.finish(self.reader);
        Some(Service {
            name: name?,
            memory: memory?,
            ports,
            oom_score_adj: oom_score_adj.unwrap_or(0),
            polls,
        })
    }

    /// What a service polls: an address and a port.
    fn polls(&mut self, fields: &mut Fields<'_>, path: &str) -> Option<SocketAddrV4> {
        let path = format!("{path}.polls");
        let mut fields = self.reader.fields(fields.optional("polls")?, &path)?;
        let address = self.needed(&mut fields, "address", &path, "address");
        let port = self.needed(&mut fields, "port", &path, "port");
        fields.finish(self.reader);
        Some(SocketAddrV4::new(address?, port?))
    }

    fn instance(&mut self, node: &Node, path: &str) -> Option<Instance> {
        let mut fields = self.reader.fields(node, "the instance")?;
        let name = self.needed(&mut fields, "name", path, "name");
        let flavor = self.needed(&mut fields, "flavor", path, "name");
        let ports = self.list(&mut fields, "ports", path, |parser, item, _| {
            parser.reader.scalar(item, "port")
        });
        fields.finish(self.reader);
        Some(Instance {
            name: name?,
            flavor: flavor?,
            ports,
        })
    }

    fn source(&mut self, node: &Node) -> Option<(String, Option<String>)> {
        let mut fields = self.reader.fields(node, "the source")?;
        let local: Option<String> = fields
            .optional("path")
            .and_then(|node| self.reader.scalar(node, "path"));
        let url: Option<String> = if local.is_some() {
            None
        } else {
            fields
                .required("url", self.reader)
                .and_then(|node| self.reader.scalar(node, "URL"))
        };
        let digest_key = if url.is_some() {
            fields.required("sha256", self.reader)
        } else {
            fields.optional("sha256")
        };
        let digest = digest_key.and_then(|node| {
            let text: String = self.reader.scalar(node, "SHA-256")?;
            if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                self.reader
                    .bad_value(node, &text, "SHA-256", &"it has 64 hex digits");
            }
            Some(text.to_ascii_lowercase())
        });
        fields.finish(self.reader);
        Some((local.or(url)?, digest))
    }

    fn vip(&mut self, name: Name, node: &Node, path: &str, networks: &[Network]) -> Option<Vip> {
        let mut fields = self.reader.fields(node, path)?;
        let host = self.needed(&mut fields, "host", path, "host name");
        let address = self.needed(&mut fields, "address", path, "address");
        let port = self.needed(&mut fields, "port", path, "port");
        let polls = self.polls(&mut fields, path);
        fields.finish(self.reader);
        let address = address?;
        let Some(network) = networks
            .iter()
            .find(|network| network.cidr.contains(address))
        else {
            self.reader.wrong(
                TopologyError::AddressNowhere { address }.at(self
                    .spans
                    .get(&format!("{path}.address"))
                    .copied()
                    .unwrap_or(node.span)),
            );
            return None;
        };
        Some(Vip {
            name,
            host: host?,
            address,
            network: network.name.clone(),
            port: port?,
            polls,
        })
    }

    fn compute(&mut self, node: &Node) -> Compute {
        let mut compute = Compute::default();
        let Some(mut fields) = self.reader.fields(node, "compute") else {
            return compute;
        };
        if let Some(node) = fields.optional("ram_allocation_ratio")
            && let Some(ratio) = self.reader.scalar::<f64>(node, "ratio")
        {
            if !ratio.is_finite() || ratio <= 0.0 || ratio > 64.0 {
                self.reader
                    .bad_value(node, &ratio, "ratio", &"it is above 0 and at most 64");
            }
            compute.ram_allocation_ratio = ratio;
        }
        if let Some(reserved) = self.scalar(&mut fields, "reserved_host_memory", "compute", "size")
        {
            compute.reserved_host_memory = reserved;
        }
        let words = [("true", true), ("false", false)];
        if let Some(resume) = self.choice(
            &mut fields,
            "resume_guests_state_on_host_boot",
            "resume_guests_state_on_host_boot",
            &words,
        ) {
            compute.resume_guests_state_on_host_boot = resume;
        }
        let flavors: Vec<(Name, Mib)> = self.named(
            fields.optional("flavors"),
            "compute.flavors",
            |parser, name, node, _| Some((name, parser.reader.scalar(node, "size")?)),
        );
        compute.flavors = flavors.into_iter().collect::<BTreeMap<_, _>>();
        fields.finish(self.reader);
        compute
    }

    fn policy(&mut self, node: Option<&Node>) -> Policy {
        let Some(node) = node else {
            return Policy::default();
        };
        let Some(mut fields) = self.reader.fields(node, "policy") else {
            return Policy::default();
        };
        let autostart = self.choice(
            &mut fields,
            "autostart",
            "autostart",
            &[("true", true), ("false", false)],
        );
        fields.finish(self.reader);
        Policy {
            autostart: autostart.unwrap_or(false),
        }
    }

    fn baseline(&mut self, name: Name, node: &Node, path: &str) -> Option<Baseline> {
        if node.value == Value::Null {
            return Some(Baseline {
                name,
                gates: Vec::new(),
            });
        }
        let mut fields = self.reader.fields(node, path)?;
        let gates = self.list(&mut fields, "gates", path, |parser, item, _| {
            parser.reader.choice(item, "gate", GATES)
        });
        fields.finish(self.reader);
        Some(Baseline {
            name,
            gates: gates.into_iter().map(str::to_owned).collect(),
        })
    }
}
