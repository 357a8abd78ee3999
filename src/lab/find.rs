//! Finding labs by their marks.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Drivers, LabError, Layout, Way};
use crate::hypervisor::{ObservedDomain, ObservedNetwork, Target};
use crate::model::LabRecord;
use crate::model::spec::{DomainSpec, NetworkSpec};
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

impl FoundHost {
    /// What the guest was told to be, where it was told.
    pub fn config(&self) -> Option<HostConfig> {
        serde_json::from_str(self.spec.config.as_deref()?).ok()
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
        })
    }
}

impl Found {
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
    let (domains, networks) =
        futures::try_join!(drivers.hypervisor.domains(), drivers.hypervisor.networks())?;
    let mut labs: BTreeMap<Uuid, Found> = BTreeMap::new();
    let fresh = |record: LabRecord| Found {
        record,
        hosts: Vec::new(),
        networks: Vec::new(),
    };
    for domain in domains {
        let Some(mark) = domain.mark.clone() else {
            continue;
        };
        let Ok(spec) = serde_json::from_value(mark.spec) else {
            continue;
        };
        let lab = labs.entry(mark.lab.uuid).or_insert_with(|| fresh(mark.lab));
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
        let lab = labs.entry(mark.lab.uuid).or_insert_with(|| fresh(mark.lab));
        lab.networks.push((network, spec));
    }
    for (uuid, record) in layout.lab_directories() {
        if let Some(record) = record {
            labs.entry(uuid).or_insert_with(|| fresh(record));
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
