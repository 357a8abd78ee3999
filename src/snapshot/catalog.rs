//! The baselines that there are.

use futures::future::join_all;
use uuid::Uuid;

use super::SnapshotError;
use super::manifest::{self, Manifest, state_name};
use super::recover::REMOVE;
use super::set::{Plan, Set, remove_directory};
use crate::lab::{Layout, allocated, together, unshared};
use crate::storage;

/// A baseline in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is, or why that cannot be read.
    pub manifest: Result<Manifest, String>,
    /// Bytes that its own files and its states in the disks take, those shared with other files included.
    pub files_bytes: u64,
    /// Bytes that would be free without it: its states, and blocks of its files that nothing else has.
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

/// The baselines that runs of scenarios have taken, the oldest first: the name, and the run.
pub fn of_runs(layout: &Layout, lab: Uuid) -> Result<Vec<(String, String)>, SnapshotError> {
    let found = manifests(layout, lab)?.into_iter();
    let of_run =
        |(name, manifest): (String, Result<Manifest, String>)| Some((name, manifest.ok()?.run?));
    Ok(found.filter_map(of_run).collect())
}

/// Names of the baselines that cannot be restored any more once the disks of these hosts are lost, the oldest first.
pub fn that_need(layout: &Layout, lab: Uuid, hosts: &[&str]) -> Result<Vec<String>, SnapshotError> {
    let needs = |manifest: &Manifest| {
        let mut kept = hosts.iter().filter_map(|host| manifest.host(host));
        kept.any(|host| !host.disks.is_empty())
    };
    let found = manifests(layout, lab)?.into_iter();
    let needing = found.filter(|(_, manifest)| manifest.as_ref().is_ok_and(needs));
    Ok(needing.map(|(name, _)| name).collect())
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
        // Device state, and memory where it is a stream, is in the disks' files, for this baseline alone.
        let states = manifest.as_ref().map_or(0, state_bytes);
        let files: u64 = paths.iter().filter_map(|path| allocated(path).ok()).sum();
        Listed {
            name,
            manifest,
            files_bytes: files + states,
            own_bytes: unshared(&paths).map(|bytes| bytes + states),
        }
    });
    Ok(listed.collect())
}

fn state_bytes(manifest: &Manifest) -> u64 {
    let disks = manifest.hosts.iter().flat_map(|host| &host.disks);
    disks.map(|disk| disk.state.state_bytes).sum()
}

/// Bytes that all baselines' files and states take together, shared blocks counted once; nothing where the file system does not tell.
pub fn total(layout: &Layout, lab: Uuid) -> Option<u64> {
    let directories = std::fs::read_dir(layout.baselines(lab)).ok()?.flatten();
    let files = directories.flat_map(|entry| {
        std::fs::read_dir(entry.path())
            .into_iter()
            .flatten()
            .flatten()
    });
    let paths: Vec<_> = files.map(|file| file.path()).collect();
    let manifests = manifests(layout, lab).ok()?;
    let states = manifests
        .iter()
        .filter_map(|(_, manifest)| manifest.as_ref().ok());
    let states: u64 = states.map(state_bytes).sum();
    Some(together(&paths)? + states)
}

/// Reads one baseline.
pub fn show(set: &Set<'_>, name: &str) -> Result<Manifest, SnapshotError> {
    shown(set.layout, set.lab(), name)
}

/// Reads one baseline of a lab that is only looked at.
pub fn shown(layout: &Layout, lab: Uuid, name: &str) -> Result<Manifest, SnapshotError> {
    match Manifest::read(&layout.baselines(lab).join(name))? {
        Some(manifest) => Ok(manifest),
        None => Err(SnapshotError::Unknown {
            name: name.to_owned(),
            known: names(layout, lab)?,
        }),
    }
}

/// Removes a baseline; nothing that another one needs goes with it. Killed in the middle, `twin recover` goes on.
pub async fn remove(set: Set<'_>, name: &str) -> Result<(), SnapshotError> {
    let directory = set.baselines().join(name);
    let id = match Manifest::read(&directory) {
        Ok(None) => return show(&set, name).map(drop),
        Ok(Some(manifest)) => manifest.id,
        // A damaged one may still tell which it was.
        Err(_) => manifest::id_of(&directory).unwrap_or_default(),
    };
    let plan = Plan {
        name: name.to_owned(),
        id,
        running: Vec::new(),
    };
    set.held()?;
    set.mend().await?;
    let text = serde_json::to_string(&plan).unwrap_or_default();
    let _on_duty = set.stand_by();
    let operation = set.journal.begin(set.lab(), REMOVE, &text)?;
    finish_removal(&set, &plan).await?;
    set.done(operation, &format!("removing baseline {name}"))
}

/// Does what is left of a removal.
pub(super) async fn finish_removal(set: &Set<'_>, plan: &Plan) -> Result<(), SnapshotError> {
    let directory = set.baselines().join(&plan.name);
    // From here on it is none, whatever happens.
    let file = directory.join(manifest::FILE);
    storage::remove(&file).map_err(SnapshotError::io(format!("removing {}", file.display())))?;
    let state = state_name(plan.id);
    let discards = set.found.hosts.iter().map(|host| {
        set.drivers
            .hypervisor
            .capture
            .discard(set.target(host), &state)
    });
    let outcomes: Result<Vec<()>, _> = join_all(discards).await.into_iter().collect();
    outcomes?;
    remove_directory(&directory, set.watch)
}
