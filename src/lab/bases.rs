//! The files that hosts' disks lie on.

use std::path::{Path, PathBuf};

use super::layout::is_host_file;
use super::{LabError, Layout};
use crate::image::qcow2::Qcow2;
use crate::image::{Bases, ImageError, Store};
use crate::model::spec::DomainSpec;

/// Checks, before a host's guest is started, that what its disks lie on is what it was when they were made.
pub(crate) async fn check_bases(layout: &Layout, spec: &DomainSpec) -> Result<(), LabError> {
    let below = spec.disks.iter().filter_map(|disk| disk.backing.clone());
    let bases = below.map(|(path, _)| path).collect();
    hashing(layout, bases, Store::check_base).await
}

/// Pins what discarded disks lie on as it is now.
pub(super) async fn renew_bases(layout: &Layout, bases: Vec<PathBuf>) -> Result<(), LabError> {
    hashing(layout, bases, Store::renew_base).await
}

/// Does what may read gigabytes, for each of `bases`.
async fn hashing(
    layout: &Layout,
    bases: Vec<PathBuf>,
    act: fn(&Store, &Path) -> Result<(), ImageError>,
) -> Result<(), LabError> {
    if bases.is_empty() {
        return Ok(());
    }
    let store = Store::new(layout.images());
    let work = move || bases.iter().try_for_each(|base| act(&store, base));
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| LabError::io("hashing an image")(std::io::Error::other(error)))??)
}

/// The files that disks of any lab in a state directory lie on, as the disks' own headers tell; those of disks in the
/// directories `doomed` apart.
pub(super) fn bases_in_use(layout: &Layout, doomed: &[PathBuf]) -> Bases {
    let mut bases = Bases::default();
    for lab in entries(&layout.pool().join("labs")) {
        for host in entries(&lab) {
            let own = if doomed.contains(&host) {
                &mut bases.doomed
            } else {
                &mut bases.kept
            };
            own.extend(entries(&host).iter().filter_map(|file| base_of(file)));
        }
    }
    bases
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn base_of(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let disk = name.starts_with("disk") && is_host_file(name);
    let regular = file.symlink_metadata().is_ok_and(|found| found.is_file());
    if !disk || !regular {
        return None;
    }
    let backing = Qcow2::open(file).ok()?.header().backing.clone()?;
    let whole = file.parent()?.join(backing);
    Some(whole.canonicalize().unwrap_or(whole))
}
