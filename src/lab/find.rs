//! Finding labs by their marks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::layout::KNOWN_HOSTS;
use super::{Drivers, LabError, Layout, Way};
use crate::hypervisor::{ObservedDomain, ObservedNetwork, Target};
use crate::model::spec::{DomainSpec, NetworkSpec};
use crate::model::{LabRecord, Mark};
use crate::plan::moved_disk;
use crate::units::Name;
use crate::wire::HostConfig;

/// A lab as it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was decided when it was made.
    pub record: LabRecord,
    /// Its hosts, by name.
    pub hosts: Vec<FoundHost>,
    /// Its networks with their specs.
    pub networks: Vec<(ObservedNetwork, NetworkSpec)>,
    /// Domains and networks that carry a mark of this lab which is not their own. No verb touches them.
    pub strays: Vec<Stray>,
}

/// A thing with a mark that is another thing's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// What it is.
    pub kind: StrayKind,
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The lab that the mark names.
    pub lab: String,
    /// The name of the thing that the mark was made for.
    pub made_for: String,
    /// Whether it is that thing all the same, under another name.
    pub renamed: bool,
}

/// What a stray is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayKind {
    /// A domain.
    Domain,
    /// A network.
    Network,
}

impl Stray {
    fn of(kind: StrayKind, name: &str, uuid: Uuid, mark: &Mark) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            uuid,
            lab: mark.lab.name.to_string(),
            made_for: mark.made_for(),
            renamed: mark.made_for_uuid() == Some(uuid),
        }
    }

    /// What there is to do about it, where there is something.
    pub fn cure(&self) -> Option<String> {
        if !self.renamed || self.kind == StrayKind::Network {
            return None;
        }
        Some(format!(
            "`virsh domrename {} {}`, while it is off, makes it the lab's again",
            self.name, self.made_for
        ))
    }
}

impl std::fmt::Display for Stray {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, made_for, .. } = self;
        if self.renamed {
            write!(
                formatter,
                "{made_for} has been renamed to {name}, which is not the name on its mark; left alone"
            )
        } else {
            write!(
                formatter,
                "{name} carries a copy of {made_for}'s mark; left alone"
            )
        }
    }
}

/// Lists the things of a machine that carry a mark of any lab which is not their own.
pub fn strays(domains: &[ObservedDomain], networks: &[ObservedNetwork]) -> Vec<(Uuid, Stray)> {
    let domains = domains.iter().filter_map(|domain| {
        let mark = domain.foreign_mark.as_ref()?;
        let stray = Stray::of(StrayKind::Domain, &domain.name, domain.uuid, mark);
        Some((mark.lab.uuid, stray))
    });
    let networks = networks.iter().filter_map(|network| {
        let mark = network.foreign_mark.as_ref()?;
        let stray = Stray::of(StrayKind::Network, &network.name, network.uuid, mark);
        Some((mark.lab.uuid, stray))
    });
    domains.chain(networks).collect()
}

/// A host as it was found.
#[derive(Clone, Debug)]
pub struct FoundHost {
    /// Its name.
    pub name: Name,
    /// Its domain.
    pub domain: ObservedDomain,
    /// What the domain was made from.
    pub spec: DomainSpec,
}

/// The file with the host key of a guest that is reached over SSH.
pub(super) fn known_hosts(spec: &DomainSpec) -> PathBuf {
    spec.channel.with_file_name(KNOWN_HOSTS)
}

impl FoundHost {
    /// What the guest was told to be, where it was told.
    pub fn config(&self) -> Option<HostConfig> {
        serde_json::from_str(self.spec.config.as_deref()?).ok()
    }

    /// The first of the disks `is` that is not the file it was made with: the mark's file, and the other where there is one.
    /// Another tool has made a snapshot of it then, or moved it.
    pub fn moved_disk<'f>(&'f self, is: &'f [PathBuf]) -> Option<(&'f Path, Option<&'f Path>)> {
        moved_disk(&self.spec, is)
    }

    /// The domain, as a target.
    pub fn target(&self, lab: Uuid) -> Target {
        Target {
            uuid: self.domain.uuid,
            lab,
        }
    }

    /// The way into the guest.
    pub fn way(&self, layout: &Layout, networks: &[(ObservedNetwork, NetworkSpec)]) -> Option<Way> {
        if self.spec.config.is_some() {
            return Some(Way::Channel {
                domain: self.domain.uuid,
                socket: self.spec.channel.clone(),
            });
        }
        // A guest with a seed has the address that its network leases to it.
        self.spec.seed_iso.as_ref()?;
        let lease = networks
            .iter()
            .flat_map(|(_, spec)| &spec.leases)
            .find(|lease| self.spec.nics.iter().any(|nic| nic.mac == lease.mac))?;
        Some(Way::Ssh {
            address: lease.address,
            key: layout.ssh_key(),
            known: known_hosts(&self.spec),
        })
    }
}

impl Found {
    /// A lab of which nothing is there yet, or nothing any more.
    pub const fn empty(record: LabRecord) -> Self {
        Self {
            record,
            hosts: Vec::new(),
            networks: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// The state directory that has the lab's files: the one that its marks name. Marks of before 2026-12 name none; the
    /// paths that they hold tell.
    pub fn state(&self) -> Option<PathBuf> {
        if let Some(state) = &self.record.state {
            return Some(state.clone());
        }
        let host = self.hosts.first()?;
        // STATE/pool/labs/UUID/HOST/guest.sock
        host.spec.channel.ancestors().nth(5).map(Path::to_path_buf)
    }

    /// The names of its hosts.
    pub fn host_names(&self) -> Vec<&str> {
        self.hosts.iter().map(|host| host.name.as_str()).collect()
    }

    /// The host of that name, or all where none is named.
    pub fn chosen(&self, host: Option<&str>) -> Result<Vec<&FoundHost>, LabError> {
        match host {
            Some(name) => Ok(vec![self.host(name)?]),
            None => Ok(self.hosts.iter().collect()),
        }
    }

    /// Finds a host.
    pub fn host(&self, name: &str) -> Result<&FoundHost, LabError> {
        self.hosts
            .iter()
            .find(|host| host.name.as_str() == name)
            .ok_or_else(|| LabError::NoHost {
                name: name.to_owned(),
                lab: self.record.name.to_string(),
                known: self
                    .hosts
                    .iter()
                    .map(|host| host.name.to_string())
                    .collect(),
            })
    }
}

/// Finds all labs of this machine, by the marks on domains and networks and in the state directory.
pub async fn find_all(drivers: &Drivers, layout: &Layout) -> Result<Vec<Found>, LabError> {
    let (domains, networks) = futures::try_join!(
        drivers.hypervisor.inventory.domains(),
        drivers.hypervisor.inventory.networks()
    )?;
    let mut labs: BTreeMap<Uuid, Found> = BTreeMap::new();
    let strays = strays(&domains, &networks);
    for domain in domains {
        let Some(mark) = domain.mark.clone() else {
            continue;
        };
        let Ok(spec) = serde_json::from_value(mark.spec) else {
            continue;
        };
        let lab = labs
            .entry(mark.lab.uuid)
            .or_insert_with(|| Found::empty(mark.lab));
        lab.hosts.push(FoundHost {
            name: mark.thing,
            domain,
            spec,
        });
    }
    for network in networks {
        let Some(mark) = network.mark.clone() else {
            continue;
        };
        let Ok(spec) = serde_json::from_value(mark.spec) else {
            continue;
        };
        let lab = labs
            .entry(mark.lab.uuid)
            .or_insert_with(|| Found::empty(mark.lab));
        lab.networks.push((network, spec));
    }
    for (uuid, record) in layout.lab_directories() {
        if let Some(mut record) = record {
            // Its files are here, wherever they were when it was made.
            record.state = Some(layout.state().to_owned());
            labs.entry(uuid).or_insert_with(|| Found::empty(record));
        }
    }
    for (lab, stray) in strays {
        // What is left of a lab that is gone belongs to no lab: `twin doctor` names it.
        if let Some(lab) = labs.get_mut(&lab) {
            lab.strays.push(stray);
        }
    }
    let mut labs: Vec<Found> = labs.into_values().collect();
    for lab in &mut labs {
        lab.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        // libvirt lists networks in another order once others have come or gone.
        lab.networks.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    }
    labs.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    Ok(labs)
}

/// Chooses the lab that a verb is about: the one named, or the only one.
pub fn choose(labs: Vec<Found>, name: Option<&str>) -> Result<Found, LabError> {
    let known: Vec<String> = labs.iter().map(|lab| lab.record.name.to_string()).collect();
    match name {
        Some(name) => labs
            .into_iter()
            .find(|lab| lab.record.name.as_str() == name)
            .ok_or_else(|| LabError::NoLab {
                name: name.to_owned(),
                known,
            }),
        None if labs.len() == 1 => labs.into_iter().next().ok_or(LabError::WhichLab { known }),
        None => Err(LabError::WhichLab { known }),
    }
}
