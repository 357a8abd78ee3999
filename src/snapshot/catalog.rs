//! The baselines that there are.

use futures::future::join_all;
use uuid::Uuid;

use super::SnapshotError;
use super::manifest::Manifest;
use super::set::{Set, remove_directory};
use crate::lab::{Layout, allocated, together, unshared};

/// A baseline in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is, or why that cannot be read.
    pub manifest: Result<Manifest, String>,
    /// Bytes that its own files take, those shared with other files included.
    pub files_bytes: u64,
    /// Bytes that would be free without it: blocks of its files that nothing else has.
    pub own_bytes: Option<u64>,
}

/// Reads the manifests of a lab's baselines, the oldest first. Half-made ones are none.
fn manifests(
    layout: &Layout,
    lab: Uuid,
) -> Result<Vec<(String, Result<Manifest, String>)>, SnapshotError> {
    let directory = layout.baselines(lab);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(SnapshotError::io(format!(
                "reading {}",
                directory.display()
            ))(error));
        }
    };
    let mut found: Vec<(String, Result<Manifest, String>)> = entries
        .flatten()
        .filter_map(|entry| {
            let read = Manifest::read(&entry.path()).transpose()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, read.map_err(|error| error.to_string())))
        })
        .collect();
    found.sort_by_key(|(name, manifest)| {
        let taken = manifest.as_ref().ok();
        (
            taken.map(|manifest| manifest.created_at.clone()),
            name.clone(),
        )
    });
    Ok(found)
}

/// Names of a lab's baselines, the oldest first.
pub fn names(layout: &Layout, lab: Uuid) -> Result<Vec<String>, SnapshotError> {
    let found = manifests(layout, lab)?.into_iter();
    Ok(found.map(|(name, _)| name).collect())
}

/// Lists a lab's baselines with what they take, the oldest first. Reads where all blocks of their files are.
pub fn list(layout: &Layout, lab: Uuid) -> Result<Vec<Listed>, SnapshotError> {
    let directory = layout.baselines(lab);
    let listed = manifests(layout, lab)?.into_iter().map(|(name, manifest)| {
        let files = std::fs::read_dir(directory.join(&name));
        let paths: Vec<_> = files
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path())
            .collect();
        Listed {
            name,
            manifest,
            files_bytes: paths.iter().filter_map(|path| allocated(path).ok()).sum(),
            own_bytes: unshared(&paths),
        }
    });
    Ok(listed.collect())
}

/// Bytes that all baselines' files take together, shared blocks counted once; nothing where the file system does not tell.
pub fn total(layout: &Layout, lab: Uuid) -> Option<u64> {
    let directories = std::fs::read_dir(layout.baselines(lab)).ok()?.flatten();
    let files = directories.flat_map(|entry| {
        std::fs::read_dir(entry.path())
            .into_iter()
            .flatten()
            .flatten()
    });
    let paths: Vec<_> = files.map(|file| file.path()).collect();
    together(&paths)
}

/// Reads one baseline.
pub fn show(set: &Set<'_>, name: &str) -> Result<Manifest, SnapshotError> {
    match Manifest::read(&set.baselines().join(name))? {
        Some(manifest) => Ok(manifest),
        None => Err(SnapshotError::Unknown {
            name: name.to_owned(),
            known: names(set.layout, set.lab())?,
        }),
    }
}

/// Removes a baseline; nothing that another one needs goes with it.
pub async fn remove(set: Set<'_>, name: &str) -> Result<(), SnapshotError> {
    let directory = set.baselines().join(name);
    let read = Manifest::read(&directory);
    if matches!(read, Ok(None)) {
        show(&set, name)?;
    }
    // From here on it is none, whatever happens.
    let file = directory.join(super::manifest::FILE);
    std::fs::remove_file(&file)
        .map_err(SnapshotError::io(format!("removing {}", file.display())))?;
    if let Ok(Some(manifest)) = read {
        let state = manifest.state();
        let discards = set
            .found
            .hosts
            .iter()
            .map(|host| set.drivers.hypervisor.discard(set.target(host), &state));
        let outcomes: Result<Vec<()>, _> = join_all(discards).await.into_iter().collect();
        outcomes?;
    }
    remove_directory(&directory)
}
