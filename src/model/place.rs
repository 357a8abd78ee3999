//! From a placed lab to what the hypervisor is asked for.

use std::path::{Path, PathBuf};

use super::spec::{Boot, DiskSpec, DomainSpec, Lease, Marked, NetworkSpec, NicLink, NicSpec};
use super::{AcceleratorChoice, Dhcp, Host, Mark, NetworkMode, Placed, PlacedHost, PlacedNetwork};
use crate::units::Mib;
use crate::wire;

/// What a built image offers to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// What the domain boots.
    pub boot: Boot,
    /// The file below the first disk, and its format.
    pub base: Option<(PathBuf, String)>,
    /// The size of that file as a guest sees it: a disk is never smaller.
    pub base_size: Mib,
    /// Whether twin-guest runs in it.
    pub has_twin_guest: bool,
    /// Whether it reads a cloud-init seed.
    pub takes_seed: bool,
    /// The guest system's own need of memory.
    pub overhead: Overhead,
}

/// The memory that a guest system takes for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Overhead {
    /// Whatever the guest's size.
    pub fixed: Mib,
    /// In addition, for every GiB of the guest's memory, in KiB.
    pub per_gib_kib: u64,
}

impl Overhead {
    /// Returns the memory to give so that `payload` is left.
    pub const fn on_top_of(self, payload: Mib) -> Mib {
        let gross = payload.0 + self.fixed.0;
        // The share is of the whole, overhead included: gross / (1 - share).
        let share_kib = if self.per_gib_kib > 524_288 {
            524_288
        } else {
            self.per_gib_kib
        };
        Mib((gross * 1_048_576).div_ceil(1_048_576 - share_kib))
    }
}

/// What of this machine shapes a domain.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The lab's directory; each host has one of its own below it.
    pub lab_directory: &'a Path,
    /// This machine's CPUs.
    pub cpus: u32,
}

/// Returns the memory that a host's domain gets at the lab's scale.
pub fn effective_memory(placed: &Placed, host: &Host, image: &BuiltImage) -> Mib {
    image
        .overhead
        .on_top_of(placed.record.scale.effective(host.memory))
}

/// Returns the network to define, or nothing for a bridge that exists already.
pub fn network_spec(placed: &Placed, network: &PlacedNetwork) -> Option<Marked<NetworkSpec>> {
    if network.network.mode == NetworkMode::Bridge {
        return None;
    }
    let leases = placed.hosts.iter().flat_map(|host| {
        host.host
            .nics
            .iter()
            .filter(|nic| nic.network == network.network.name)
            .filter_map(|nic| {
                Some(Lease {
                    mac: nic.mac?,
                    name: host.host.name.to_string(),
                    address: nic.address?,
                })
            })
    });
    let spec = NetworkSpec {
        name: network.libvirt_name.clone(),
        uuid: network.uuid,
        bridge: network.bridge.clone(),
        mode: network.network.mode,
        cidr: network.network.cidr,
        gateway: network.network.gateway,
        dhcp: network.network.dhcp,
        leases: if network.network.dhcp == Dhcp::Static {
            leases.collect()
        } else {
            Vec::new()
        },
        autostart: placed.topology.policy.autostart,
    };
    Some(marked(placed, &network.network.name, spec))
}

/// Returns the domain to define.
pub fn domain_spec(
    placed: &Placed,
    host: &PlacedHost,
    image: &BuiltImage,
    machine: Machine<'_>,
) -> Marked<DomainSpec> {
    let directory = machine.lab_directory.join(host.host.name.as_str());
    let disks = host.host.disks.iter().enumerate().map(|(index, disk)| {
        let size = placed.record.scale.effective(disk.size);
        let backing = if index == 0 { image.base.clone() } else { None };
        DiskSpec {
            path: directory.join(format!("disk{index}.qcow2")),
            size: if backing.is_some() {
                size.max(image.base_size)
            } else {
                size
            },
            backing,
            scratch: false,
        }
    });
    let nics = host.host.nics.iter().filter_map(|nic| {
        let network = placed.network(nic.network.as_str())?;
        let link = if network.network.mode == NetworkMode::Bridge {
            NicLink::Bridge(network.bridge.clone())
        } else {
            NicLink::Network(network.libvirt_name.clone())
        };
        Some(NicSpec {
            mac: nic.mac?,
            link,
        })
    });
    let vcpus = match placed.record.accelerator {
        AcceleratorChoice::Tcg => 1,
        AcceleratorChoice::Kvm => host.host.vcpus.min(machine.cpus),
    };
    let spec = DomainSpec {
        name: host.domain.clone(),
        uuid: host.uuid,
        memory: effective_memory(placed, &host.host, image),
        vcpus,
        accelerator: placed.record.accelerator,
        ram: host.host.ram,
        boot: image.boot.clone(),
        disks: disks.collect(),
        seed_iso: image.takes_seed.then(|| directory.join("seed.iso")),
        nics: nics.collect(),
        channel: directory.join("guest.sock"),
        serial_log: directory.join("serial.log"),
        config: image
            .has_twin_guest
            .then(|| serde_json::to_string(&host_config(placed, host)).unwrap_or_default()),
        autostart: placed.topology.policy.autostart,
    };
    marked(placed, &host.host.name, spec)
}

fn marked<S: serde::Serialize>(placed: &Placed, thing: &crate::units::Name, spec: S) -> Marked<S> {
    let mark = Mark {
        lab: placed.record.clone(),
        thing: thing.clone(),
        spec: serde_json::to_value(&spec).unwrap_or_default(),
    };
    Marked { spec, mark }
}

/// Returns the configuration that the guest gets.
pub fn host_config(placed: &Placed, host: &PlacedHost) -> wire::HostConfig {
    let scale = placed.record.scale;
    let topology = &placed.topology;
    let prefix_of = |network: &crate::units::Name| {
        topology
            .network(network.as_str())
            .map_or(24, |network| network.cidr.prefix())
    };
    let nics = host
        .host
        .nics
        .iter()
        .enumerate()
        .filter_map(|(index, nic)| {
            let prefix = prefix_of(&nic.network);
            let vips = topology
                .vips
                .iter()
                .filter(|vip| vip.host == host.host.name && vip.network == nic.network);
            Some(wire::NicConfig {
                mac: nic.mac?,
                name: format!("eth{index}"),
                addresses: nic
                    .address
                    .into_iter()
                    .chain(vips.map(|vip| vip.address))
                    .map(|address| (address, prefix))
                    .collect(),
                gateway: if nic.default_route {
                    topology
                        .network(nic.network.as_str())
                        .and_then(|network| network.gateway)
                } else {
                    None
                },
            })
        });
    let names = placed.hosts.iter().filter_map(|host| {
        let address = host.host.nics.iter().find_map(|nic| nic.address)?;
        Some((address, host.host.name.to_string()))
    });
    let services =
        topology
            .services_of(&host.host)
            .into_iter()
            .map(|service| wire::ServiceConfig {
                name: service.name.to_string(),
                memory_mib: scale.effective(service.memory).0,
                oom_score_adj: service.oom_score_adj,
                ports: service.ports,
                polls: service.polls,
            });
    wire::HostConfig {
        hostname: host.host.name.to_string(),
        nics: nics.collect(),
        hosts: names.collect(),
        services: services.collect(),
        compute: host
            .host
            .compute
            .then(|| compute_config(placed, &host.host)),
        vips: topology
            .vips
            .iter()
            .filter(|vip| vip.host == host.host.name)
            .map(|vip| (vip.name.to_string(), vip.address, vip.port))
            .collect(),
        time_scale: placed.record.time_scale,
    }
}

fn compute_config(placed: &Placed, host: &Host) -> wire::ComputeConfig {
    let compute = &placed.topology.compute;
    wire::ComputeConfig {
        total_mib: host.memory.0,
        reserved_mib: compute.reserved_host_memory.0,
        resume: compute.resume_guests_state_on_host_boot,
        ram_allocation_ratio: compute.ram_allocation_ratio,
        flavors: compute
            .flavors
            .iter()
            .map(|(name, memory)| (name.to_string(), memory.0))
            .collect(),
        instances: host
            .instances
            .iter()
            .map(|instance| {
                let flavor = compute
                    .flavors
                    .get(&instance.flavor)
                    .copied()
                    .unwrap_or_default();
                wire::InstanceConfig {
                    ports: instance.ports.clone(),
                    ..instance_config(placed, instance.name.as_str(), flavor)
                }
            })
            .collect(),
    }
}

/// Returns an instance of `flavor`, as the guest's configuration has it.
pub fn instance_config(placed: &Placed, name: &str, flavor: Mib) -> wire::InstanceConfig {
    wire::InstanceConfig {
        name: name.to_owned(),
        flavor_mib: flavor.0,
        memory_mib: placed.record.scale.effective(flavor).0,
        ports: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_leaves_the_payload_that_was_asked_for() {
        let overhead = Overhead {
            fixed: Mib(100),
            per_gib_kib: 16 * 1024,
        };
        let given = overhead.on_top_of(Mib(2048));
        let left = given.0 - 100 - given.0 * 16 / 1024;
        assert!((2047..=2049).contains(&left), "{given} leaves {left}");
    }
}
