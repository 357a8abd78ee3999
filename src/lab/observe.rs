//! What is there, in a plan's terms.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::layout::is_host_file;
use super::space::free_disk;
use super::{Drivers, LabError, Layout};
use crate::hypervisor::Power;
use crate::image::qcow2::Qcow2;
use crate::plan::{
    OUT_OF_SPACE, Observed, Present, PresentDisk, PresentDomain, PresentLink, PresentNetwork,
    Running,
};
use crate::storage;
use crate::units::Mib;

/// How deep a lab's directory goes: the lab, its hosts, their files.
const DEPTH: usize = 3;

/// Reads all that a plan compares with.
pub async fn observe(
    drivers: &Drivers,
    layout: &Layout,
    lab_directory: &Path,
) -> Result<Observed, LabError> {
    let (inventory, net) = (&drivers.hypervisor.inventory, &drivers.hostnet.links);
    let (domains, networks) = futures::try_join!(inventory.domains(), inventory.networks())?;
    let (links, routes) = futures::try_join!(net.links(), net.routes())?;
    let (mut files, mut closed) = (BTreeSet::new(), BTreeSet::new());
    collect_files(lab_directory, DEPTH, (&mut files, &mut closed))?;
    let disks = files.iter().filter(|file| is_disk(file));
    let disks = disks.map(|file| (file.clone(), read_disk(file))).collect();
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
                state: PresentDomain {
                    running: match domain.power {
                        Power::Running => Running::Yes,
                        Power::ShutOff => Running::No,
                        Power::Paused if domain.out_of_space => Running::Stuck(OUT_OF_SPACE),
                        Power::Paused => Running::Stuck("paused"),
                        Power::Crashed => Running::Stuck("crashed"),
                    },
                    persistent: domain.persistent,
                    disks: domain.disks,
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
        closed,
        disks,
        users: BTreeMap::new(),
        available_memory: available_memory(),
        free_disk: free_disk(layout),
    })
}

fn is_disk(file: &Path) -> bool {
    let host = file.file_name().and_then(|name| name.to_str());
    host.is_some_and(is_host_file)
        && file
            .extension()
            .is_some_and(|extension| extension == "qcow2")
}

/// Reads what a disk's header tells.
fn read_disk(file: &Path) -> Result<PresentDisk, String> {
    if !file.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return Err("it is not a regular file".into());
    }
    let image = Qcow2::open(file).map_err(|error| error.to_string())?;
    let header = image.header();
    let backing = header.backing.as_ref().map(|below| {
        let whole = file
            .parent()
            .map_or_else(|| below.clone(), |at| at.join(below));
        (whole, header.backing_format.clone().unwrap_or_default())
    });
    Ok(PresentDisk {
        size: Mib::from_bytes_ceil(header.size),
        backing_is_there: backing.as_ref().is_none_or(|(below, _)| below.is_file()),
        backing,
        holds_states: !image
            .snapshots()
            .map_err(|error| error.to_string())?
            .is_empty(),
    })
}

/// A directory that cannot be read is an error: what is in it would look as if it were gone.
fn collect_files(
    path: &Path,
    depth: usize,
    (files, closed): (&mut BTreeSet<PathBuf>, &mut BTreeSet<PathBuf>),
) -> Result<(), LabError> {
    let reading = || LabError::io(format!("reading {}", path.display()));
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(reading()(error)),
    };
    let passed = !found.is_dir() || storage::is_passage(&found);
    let known = if passed { &mut *files } else { &mut *closed };
    known.insert(path.to_owned());
    if depth == 0 || !found.is_dir() {
        return Ok(());
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(reading()(error)),
    };
    for entry in entries {
        let entry = entry.map_err(reading())?;
        collect_files(&entry.path(), depth - 1, (&mut *files, &mut *closed))?;
    }
    Ok(())
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
