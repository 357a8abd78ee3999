//! Where things are in the state directory.
//!
//! ```text
//!  /var/lib/twin/
//!    journal.sqlite   keys/   accelerator.json   log/
//!    pool/            perhaps a file system of its own, with reflink
//!      images/        built images
//!      labs/UUID/     lab.json, one directory a host: disks, serial.log, guest.sock; baselines/NAME/
//!      ram/           libvirt's memory_backing_dir
//! ```

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::LabError;
use crate::model::{Baseline, LabRecord};

/// The file in a lab's directory that marks it.
const RECORD: &str = "lab.json";

/// The file in a lab's directory with the baselines that its topology expects.
const EXPECTED: &str = "expected-baselines.json";

/// QEMU's user passes through directories and lists none.
const DIRECTORY_MODE: u32 = 0o711;

/// A state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    state: PathBuf,
}

/// What refuses new runs while it is there.
const HALT: &str = "halt";

impl Layout {
    /// Since when, and by whom, runs are refused.
    pub fn halted(&self) -> Option<String> {
        std::fs::read_to_string(self.state.join(HALT))
            .ok()
            .map(|since| since.trim().to_owned())
    }

    /// Refuses new runs from now on; runs that are under way see it and end.
    pub fn halt(&self, since: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.state)?;
        std::fs::write(self.state.join(HALT), format!("{since}\n"))
    }

    /// Lets runs begin again; tells whether they could not.
    pub fn lift_halt(&self) -> std::io::Result<bool> {
        match std::fs::remove_file(self.state.join(HALT)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names the state directory.
    pub const fn new(state: PathBuf) -> Self {
        Self { state }
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Where images and labs are.
    pub fn pool(&self) -> PathBuf {
        self.state.join("pool")
    }

    /// Built images.
    pub fn images(&self) -> PathBuf {
        self.pool().join("images")
    }

    /// A lab's directory.
    pub fn lab(&self, lab: Uuid) -> PathBuf {
        self.pool().join("labs").join(lab.to_string())
    }

    /// A lab's baselines.
    pub fn baselines(&self, lab: Uuid) -> PathBuf {
        self.lab(lab).join("baselines")
    }

    /// What the self-test of baselines found.
    pub fn self_test_cache(&self) -> PathBuf {
        self.state.join("self-test.json")
    }

    /// The SSH key for guests without twin-guest.
    pub fn ssh_key(&self) -> PathBuf {
        self.state.join("keys").join("guest")
    }

    /// What the accelerator probe found.
    pub fn accelerator_cache(&self) -> PathBuf {
        self.state.join("accelerator.json")
    }

    /// The loop file of the pool, where host-setup made one.
    pub fn pool_image(&self) -> PathBuf {
        self.state.join("pool.xfs")
    }

    /// Makes a directory that QEMU's user can pass through.
    pub(crate) fn make(path: &Path) -> Result<(), LabError> {
        let what = || format!("making {}", path.display());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(path)
            .map_err(LabError::io(what()))?;
        // An operator's umask does not apply to what QEMU has to pass through.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(DIRECTORY_MODE))
            .map_err(LabError::io(what()))
    }

    /// Keeps what baselines the topology expects.
    pub(crate) fn expect_baselines(
        &self,
        lab: Uuid,
        baselines: &[Baseline],
    ) -> Result<(), LabError> {
        let file = self.lab(lab).join(EXPECTED);
        let text = serde_json::to_vec(baselines).unwrap_or_default();
        if std::fs::read(&file).is_ok_and(|known| known == text) {
            return Ok(());
        }
        std::fs::write(&file, text).map_err(LabError::io(format!("writing {}", file.display())))
    }

    /// The baselines that the lab's topology expects.
    pub fn expected_baselines(&self, lab: Uuid) -> Vec<Baseline> {
        std::fs::read(self.lab(lab).join(EXPECTED))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Makes a lab's directory with its mark.
    pub(crate) fn make_lab(&self, record: &LabRecord) -> Result<(), LabError> {
        let directory = self.lab(record.uuid);
        if !self.pool().exists() {
            Self::make(&self.pool())?;
        }
        Self::make(&self.pool().join("labs"))?;
        Self::make(&directory)?;
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        let (draft, file) = (directory.join("lab.json.draft"), directory.join(RECORD));
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &file))
            .map_err(LabError::io(format!("writing {}", file.display())))
    }

    /// Reads the marks of all lab directories. One without a readable mark was being made when its twin was killed; its
    /// name is its mark.
    pub(crate) fn lab_directories(&self) -> Vec<(Uuid, Option<LabRecord>)> {
        let Ok(entries) = std::fs::read_dir(self.pool().join("labs")) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let uuid = Uuid::try_parse(&entry.file_name().to_string_lossy()).ok()?;
                let record = std::fs::read(entry.path().join(RECORD))
                    .ok()
                    .and_then(|bytes| serde_json::from_slice(&bytes).ok());
                Some((uuid, record))
            })
            .collect()
    }
}
