//! What is there, in a plan's terms.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::space::free_disk;
use super::{Drivers, LabError, Layout};
use crate::hypervisor::Power;
use crate::plan::{Observed, Present, PresentLink, PresentNetwork, Running};
use crate::units::Mib;

/// How deep a lab's directory goes: the lab, its hosts, their files.
const DEPTH: usize = 3;

/// Reads all that a plan compares with.
pub async fn observe(
    drivers: &Drivers,
    layout: &Layout,
    lab_directory: &Path,
) -> Result<Observed, LabError> {
    let (domains, networks) =
        futures::try_join!(drivers.hypervisor.domains(), drivers.hypervisor.networks())?;
    let (links, routes) = futures::try_join!(drivers.hostnet.links(), drivers.hostnet.routes())?;
    let mut files = BTreeSet::new();
    collect_files(lab_directory, DEPTH, &mut files);
    Ok(Observed {
        networks: networks
            .into_iter()
            .map(|network| Present {
                name: network.name,
                uuid: network.uuid,
                mark: network.mark,
                state: PresentNetwork {
                    bridge: network.bridge,
                    cidr: network.cidr,
                    active: network.active,
                },
            })
            .collect(),
        domains: domains
            .into_iter()
            .map(|domain| Present {
                name: domain.name,
                uuid: domain.uuid,
                mark: domain.mark,
                state: match domain.power {
                    Power::Running => Running::Yes,
                    Power::ShutOff => Running::No,
                    Power::Paused => Running::Stuck("paused"),
                    Power::Crashed => Running::Stuck("crashed"),
                },
            })
            .collect(),
        links: links
            .into_iter()
            .map(|link| PresentLink {
                name: link.name,
                alias: link.alias,
                mac: link.mac,
                addresses: link.addresses,
            })
            .collect(),
        routes: routes
            .into_iter()
            .filter_map(|route| Some((route.destination?, route.link)))
            .collect(),
        files,
        available_memory: available_memory(),
        free_disk: free_disk(layout),
    })
}

fn collect_files(path: &Path, depth: usize, files: &mut BTreeSet<PathBuf>) {
    if path.symlink_metadata().is_err() {
        return;
    }
    files.insert(path.to_owned());
    let entries = if depth == 0 {
        None
    } else {
        std::fs::read_dir(path).ok()
    };
    for entry in entries.into_iter().flatten().flatten() {
        collect_files(&entry.path(), depth - 1, files);
    }
}

/// `MemAvailable` of /proc/meminfo.
pub(crate) fn available_memory() -> Mib {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Mib(kib.unwrap_or_default() / 1024)
}
