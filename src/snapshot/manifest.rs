//! The manifest: what a baseline is. It exists exactly when the baseline does.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Rung, SnapshotError};
use crate::hypervisor::{DiskState, Memory, Power};
use crate::storage;
use crate::wire::GuestState;

/// The file's name.
pub(super) const FILE: &str = "manifest.json";

/// A baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `twin/baseline/v1`.
    pub schema: String,
    /// Its identity.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The lab that it is of.
    pub lab: Uuid,
    /// The lab's name.
    pub lab_name: String,
    /// A remark.
    pub note: Option<String>,
    /// The run of a scenario that took it, where one did.
    #[serde(default)]
    pub run: Option<String>,
    /// When it was taken, RFC 3339.
    pub created_at: String,
    /// How it was taken.
    pub rung: Rung,
    /// Why not by a better rung.
    pub reasons: Vec<String>,
    /// QEMU and its version.
    pub hypervisor: String,
    /// libvirt and its version.
    pub library: String,
    /// The machine's CPU.
    pub cpu: String,
    /// How long the set stood still, in milliseconds.
    pub set_pause_ms: u64,
    /// Specs of the lab's networks.
    pub networks: Vec<serde_json::Value>,
    /// Its hosts.
    pub hosts: Vec<HostRecord>,
}

/// A host of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub name: String,
    /// Its domain's name.
    pub domain: String,
    /// Its domain's UUID.
    pub uuid: Uuid,
    /// Whether it ran.
    pub power: Power,
    /// Where its memory is.
    pub memory: Memory,
    /// The machine type.
    pub machine: String,
    /// The emulator and version of the process that saved its state; of older baselines the machine's was recorded.
    #[serde(default)]
    pub emulator: Option<String>,
    /// The definition that it is started from.
    pub definition: String,
    /// Its devices as they were, where it had a process.
    pub devices: Option<String>,
    /// The disks that hold its state.
    pub disks: Vec<DiskRecord>,
    /// Files that it only reads.
    pub read_only: Vec<FileRecord>,
    /// Its memory, where it is a file of the baseline.
    pub ram: Option<FileRecord>,
    /// The firmware's variables: the file of the baseline, and where it belongs.
    pub nvram: Option<(FileRecord, PathBuf)>,
    /// What twin-guest said of itself.
    pub guest: Option<GuestState>,
}

/// A disk of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// The captured state in the disk's file.
    pub state: DiskState,
    /// The files below it.
    pub chain: Vec<FileRecord>,
}

/// A file that does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The file; relative to the baseline's directory where it is one of its own.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its length and of its blocks that are not zeros, each with its place.
    pub sha256: String,
}

impl FileRecord {
    /// Reads a file. `name` is what it is called in the record.
    pub(super) fn of(file: &Path, name: &Path) -> std::io::Result<Self> {
        Ok(Self {
            path: name.to_owned(),
            bytes: std::fs::metadata(file)?.len(),
            sha256: super::files::checksum(file)?,
        })
    }
}

/// The file's content: the manifest and its checksum.
#[derive(Serialize, Deserialize)]
struct Sealed {
    sha256: String,
    manifest: serde_json::Value,
}

fn seal(manifest: &serde_json::Value) -> String {
    Sha256::digest(manifest.to_string())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Manifest {
    /// The name under which the disks hold this baseline's state.
    pub fn state(&self) -> String {
        state_name(self.id)
    }

    /// When it was taken, to the second, for people.
    pub fn taken(&self) -> String {
        match self.created_at.parse::<jiff::Timestamp>() {
            Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            Err(_) => self.created_at.clone(),
        }
    }

    /// Finds a host.
    pub fn host(&self, name: &str) -> Option<&HostRecord> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Commits: the baseline is there when this returns, and not before.
    pub(super) fn commit(&self, directory: &Path) -> Result<(), SnapshotError> {
        let manifest = serde_json::to_value(self).unwrap_or_default();
        let sealed = Sealed {
            sha256: seal(&manifest),
            manifest,
        };
        let file = directory.join(FILE);
        // The files that it names are listed before it is.
        let commit = || -> std::io::Result<()> {
            storage::sync_directory(directory)?;
            let text = serde_json::to_vec_pretty(&sealed)?;
            storage::write_shared(&file, &text)
        };
        commit().map_err(SnapshotError::io(format!("writing {}", file.display())))
    }

    /// Reads a baseline; nothing where there is none.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, SnapshotError> {
        let file = directory.join(FILE);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(SnapshotError::io(format!("reading {}", file.display()))(
                    error,
                ));
            }
        };
        let damaged = |why: String| SnapshotError::Damaged {
            name: directory
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            findings: vec![format!("{}: {why}", file.display())],
        };
        let sealed: Sealed =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if seal(&sealed.manifest) != sealed.sha256 {
            return Err(damaged("its checksum is wrong".into()));
        }
        serde_json::from_value(sealed.manifest)
            .map(Some)
            .map_err(|error| damaged(error.to_string()))
    }
}

/// The file with a baseline's id: what removes the states of one that has no manifest yet, or a damaged one.
const ID: &str = "id";

/// Writes down in a baseline's directory which one it is.
pub(super) fn write_id(directory: &Path, id: Uuid) -> Result<(), SnapshotError> {
    let file = directory.join(ID);
    storage::write_shared(&file, format!("{id}\n").as_bytes())
        .map_err(SnapshotError::io(format!("writing {}", file.display())))
}

/// Reads which baseline a directory is of, without its manifest.
pub(super) fn id_of(directory: &Path) -> Option<Uuid> {
    let text = std::fs::read_to_string(directory.join(ID)).ok()?;
    text.trim().parse().ok()
}

/// The name of a baseline's state in the disks.
pub(super) fn state_name(id: Uuid) -> String {
    format!("twin-{id}")
}
