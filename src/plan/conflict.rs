//! What of a stranger's is in the way.

use std::net::Ipv4Addr;

use super::{Desired, Observed, bridge_mark};
use crate::model::spec::NetworkSpec;
use crate::model::{NetworkMode, Topology, bridge_mac};
use crate::units::{Cidr, Mib};

/// The longest path of a Unix socket (`sockaddr_un`), terminator excluded.
const SOCKET_PATH: usize = 107;

/// Memory that is left to this machine itself.
const HEADROOM: Mib = Mib(384);

/// Something in the way. Nothing has been done when one is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A domain's name is taken.
    #[error("there is a domain {name} already, and it is not this lab's")]
    Domain {
        /// The name.
        name: String,
    },
    /// A network's name is taken.
    #[error("there is a network {name} already, and it is not this lab's")]
    Network {
        /// The name.
        name: String,
    },
    /// A bridge's name is taken.
    #[error("bridge {bridge} is taken by {holder}")]
    Bridge {
        /// The bridge.
        bridge: String,
        /// Whose it is.
        holder: String,
    },
    /// A subnet is taken.
    #[error("{cidr} is taken by {holder}")]
    Subnet {
        /// The subnet.
        cidr: Cidr,
        /// Whose it is.
        holder: String,
    },
    /// Not enough memory.
    #[error("the lab needs {needed} of memory and {available} can be had")]
    Memory {
        /// With overhead, for the hosts that do not run yet.
        needed: Mib,
        /// `MemAvailable` less a reserve.
        available: Mib,
    },
    /// Not enough space for all disks and memory files written full.
    #[error("the lab's disks and memory files can grow to {needed} and {free} are free")]
    Disk {
        /// When all is written.
        needed: Mib,
        /// Free on the state disk.
        free: Mib,
    },
    /// A host's channel would have too long a path.
    #[error("the path {path} is too long for a socket")]
    SocketPath {
        /// The path.
        path: String,
    },
}

impl Conflict {
    /// Whether another lab name gets out of the way.
    pub const fn other_lab_helps(&self) -> bool {
        matches!(
            self,
            Self::Domain { .. } | Self::Network { .. } | Self::Bridge { .. } | Self::Subnet { .. }
        )
    }
}

/// Names everything that is in the way.
pub fn conflicts(desired: &Desired, observed: &Observed) -> Vec<Conflict> {
    let mut found = Vec::new();
    let lab = desired.lab;
    for wanted in &desired.domains {
        let spec = &wanted.domain.spec;
        let taken = |present: &&super::Present<super::PresentDomain>| {
            present.name == spec.name
                && present
                    .mark
                    .as_ref()
                    .is_none_or(|mark| mark.lab.uuid != lab)
        };
        if observed.domains.iter().any(|present| taken(&present)) {
            found.push(Conflict::Domain {
                name: spec.name.clone(),
            });
        }
        let path = spec.channel.display().to_string();
        if path.len() > SOCKET_PATH {
            found.push(Conflict::SocketPath { path });
        }
    }
    for network in &desired.networks {
        of_network(desired, observed, &network.spec, &mut found);
    }
    found.extend(space(desired, observed));
    found
}

/// What is in the way of a network.
fn of_network(
    desired: &Desired,
    observed: &Observed,
    spec: &NetworkSpec,
    found: &mut Vec<Conflict>,
) {
    let lab = desired.lab;
    let mark = bridge_mark(lab);
    let strangers = || {
        observed.networks.iter().filter(|present| {
            present
                .mark
                .as_ref()
                .is_none_or(|mark| mark.lab.uuid != lab)
        })
    };
    if strangers().any(|present| present.name == spec.name) {
        found.push(Conflict::Network {
            name: spec.name.clone(),
        });
    }
    let by_network =
        strangers().find(|present| present.state.bridge.as_ref() == Some(&spec.bridge));
    let own_network = observed
        .networks
        .iter()
        .any(|present| present.uuid == spec.uuid && present.state.active);
    let by_link = observed.links.iter().find(|link| {
        link.name == spec.bridge
            && !own_network
            && link.alias.as_ref() != Some(&mark)
            && link.mac != Some(bridge_mac(spec.uuid))
    });
    if let Some(present) = by_network {
        found.push(Conflict::Bridge {
            bridge: spec.bridge.clone(),
            holder: format!("network {}", present.name),
        });
    } else if by_link.is_some() {
        found.push(Conflict::Bridge {
            bridge: spec.bridge.clone(),
            holder: "a link of this machine".into(),
        });
    }
    if let Some(holder) = subnet_holder(desired, observed, spec.cidr) {
        found.push(Conflict::Subnet {
            cidr: spec.cidr,
            holder,
        });
    }
}

/// Whether a link is one of this lab's own bridges, also one whose network was cut off while it started.
fn is_own_link(desired: &Desired, observed: &Observed, link: &str) -> bool {
    desired.networks.iter().any(|network| {
        let spec = &network.spec;
        let active = |present: &super::Present<super::PresentNetwork>| {
            present.uuid == spec.uuid && present.state.active
        };
        let left = |present: &super::PresentLink| {
            present.name == link && present.mac == Some(bridge_mac(spec.uuid))
        };
        spec.bridge == link
            && (observed.networks.iter().any(active) || observed.links.iter().any(left))
    })
}

fn subnet_holder(desired: &Desired, observed: &Observed, cidr: Cidr) -> Option<String> {
    let overlaps =
        |(address, prefix): (Ipv4Addr, u8)| Cidr::holding(address, prefix).overlaps(cidr);
    let stranger = observed.networks.iter().find(|present| {
        present
            .mark
            .as_ref()
            .is_none_or(|mark| mark.lab.uuid != desired.lab)
            && present
                .state
                .cidr
                .is_some_and(|theirs| theirs.overlaps(cidr))
    });
    if let Some(stranger) = stranger {
        return Some(format!("network {}", stranger.name));
    }
    let link = observed.links.iter().find(|link| {
        !is_own_link(desired, observed, &link.name)
            && link.addresses.iter().any(|address| overlaps(*address))
    });
    if let Some(link) = link {
        return Some(format!("link {} of this machine", link.name));
    }
    let route = observed.routes.iter().find(|(destination, link)| {
        destination.prefix() > 0
            && destination.overlaps(cidr)
            && !link
                .as_ref()
                .is_some_and(|link| is_own_link(desired, observed, link))
    });
    route.map(|(destination, _)| format!("the route to {destination} of this machine"))
}

/// Memory and disk for the hosts that are not there yet.
fn space(desired: &Desired, observed: &Observed) -> Vec<Conflict> {
    let fresh = desired.chosen().filter(|wanted| {
        !observed.domains.iter().any(|present| {
            present.uuid == wanted.domain.spec.uuid && present.state.running == super::Running::Yes
        })
    });
    let needed: Mib = fresh.map(|wanted| wanted.domain.spec.memory).sum();
    let available = observed.available_memory.saturating_sub(HEADROOM);
    let mut found = Vec::new();
    if needed > available {
        found.push(Conflict::Memory { needed, available });
    }
    let growth: Mib = desired
        .chosen()
        .filter(|wanted| {
            !wanted
                .domain
                .spec
                .disks
                .iter()
                .all(|disk| observed.files.contains(&disk.path))
                || wanted.domain.spec.disks.is_empty()
        })
        .map(|wanted| {
            let spec = &wanted.domain.spec;
            let disks: Mib = spec.disks.iter().map(|disk| disk.size).sum();
            if spec.ram == crate::model::RamBacking::File {
                disks + spec.memory
            } else {
                disks
            }
        })
        .sum();
    if growth > observed.free_disk {
        found.push(Conflict::Disk {
            needed: growth,
            free: observed.free_disk,
        });
    }
    found
}

/// Returns the first shift, in steps of a /16, at which none of the topology's networks meets anything of this machine.
pub fn free_shift(topology: &Topology, observed: &Observed) -> Option<u32> {
    const STEPS: u32 = 200;
    let taken: Vec<Cidr> = observed
        .networks
        .iter()
        .filter_map(|present| present.state.cidr)
        .chain(observed.links.iter().flat_map(|link| {
            link.addresses
                .iter()
                .map(|(address, prefix)| Cidr::holding(*address, *prefix))
        }))
        .chain(
            observed
                .routes
                .iter()
                .map(|(destination, _)| *destination)
                .filter(|destination| destination.prefix() > 0),
        )
        .collect();
    (1..=STEPS).map(|step| step << 16).find(|shift| {
        topology
            .networks
            .iter()
            .filter(|network| network.mode != NetworkMode::Bridge)
            .all(|network| {
                network
                    .cidr
                    .shifted(*shift)
                    .is_some_and(|moved| !taken.iter().any(|taken| taken.overlaps(moved)))
            })
    })
}
