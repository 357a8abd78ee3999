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

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::LabError;
use crate::model::{Baseline, LabRecord};

/// The file in a lab's directory that marks it.
const RECORD: &str = "lab.json";

/// What a lab's directory is called besides while it is made, and while it is removed: it is there whole, with its mark, or
/// not at all.
const MAKING: &str = "making";
const REMOVING: &str = "removing";

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

    /// Makes a lab's directory with its mark, or puts the mark back into it. Called with the lab's lock held.
    pub(crate) fn make_lab(&self, record: &LabRecord) -> Result<(), LabError> {
        let directory = self.lab(record.uuid);
        if !self.pool().exists() {
            Self::make(&self.pool())?;
        }
        Self::make(&self.pool().join("labs"))?;
        self.sweep(record.uuid)?;
        if directory.exists() {
            return write_record(&directory, record);
        }
        let draft = directory.with_extension(MAKING);
        Self::make(&draft)?;
        write_record(&draft, record)?;
        std::fs::rename(&draft, &directory)
            .map_err(LabError::io(format!("making {}", directory.display())))
    }

    /// Whether a lab's directory has its mark.
    pub(crate) fn is_marked(&self, lab: Uuid) -> bool {
        self.lab(lab).join(RECORD).exists()
    }

    /// Removes a lab's directory; tells whether there was one. Called with the lab's lock held.
    pub(crate) fn remove_lab(&self, lab: Uuid) -> Result<bool, LabError> {
        let directory = self.lab(lab);
        let failed = |error| LabError::io(format!("removing {}", directory.display()))(error);
        self.sweep(lab)?;
        let renamed = std::fs::rename(&directory, directory.with_extension(REMOVING));
        match renamed {
            Ok(()) => self.sweep(lab).map(|_| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes what a twin that died left of a lab's directory while it made or removed it; returns what there was. Called with
    /// the lab's lock held.
    pub(crate) fn sweep(&self, lab: Uuid) -> Result<Vec<PathBuf>, LabError> {
        let mut swept = Vec::new();
        for word in [MAKING, REMOVING] {
            let path = self.lab(lab).with_extension(word);
            match std::fs::remove_dir_all(&path) {
                Ok(()) => swept.push(path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(LabError::io(format!("removing {}", path.display()))(error));
                }
            }
        }
        Ok(swept)
    }

    /// Labs whose directories are being made or removed, or were when their twin died.
    pub(crate) fn unsettled(&self) -> Vec<Uuid> {
        let entries = std::fs::read_dir(self.pool().join("labs"));
        let names = entries.into_iter().flatten().flatten();
        let uuid = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (uuid, word) = name.split_once('.')?;
            ([MAKING, REMOVING].contains(&word)).then(|| Uuid::try_parse(uuid).ok())?
        };
        names.filter_map(uuid).collect()
    }

    /// Whether the pool that host-setup made is mounted; without one there is nothing to mount.
    pub fn pool_is_there(&self) -> bool {
        let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
        !self.pool_image().exists() || device(&self.pool()) != device(&self.state)
    }

    /// Refuses where the pool is not mounted: labs would look empty, and be made anew below it.
    pub fn need_pool(&self) -> Result<(), LabError> {
        if self.pool_is_there() {
            return Ok(());
        }
        Err(LabError::PoolAway {
            pool: self.pool(),
            image: self.pool_image(),
        })
    }

    /// Reads the marks of all lab directories.
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

fn write_record(directory: &Path, record: &LabRecord) -> Result<(), LabError> {
    let text = serde_json::to_vec_pretty(record).unwrap_or_default();
    let (draft, file) = (directory.join("lab.json.draft"), directory.join(RECORD));
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, &file))
        .map_err(LabError::io(format!("writing {}", file.display())))
}
