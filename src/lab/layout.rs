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

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::LabError;
use crate::model::{Baseline, LabRecord};
use crate::storage::{self, Known, Left, Users};

/// The file in a lab's directory that marks it.
const RECORD: &str = "lab.json";
const RECORD_DRAFT: &str = "lab.json.draft";

/// The directory of a lab's baselines.
const BASELINES: &str = "baselines";

/// What a lab's directory is called besides while it is made, and while it is removed: it is there whole, with its mark, or
/// not at all.
const MAKING: &str = "making";
const REMOVING: &str = "removing";

/// The file in a lab's directory with the baselines that its topology expects.
const EXPECTED: &str = "expected-baselines.json";

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
        storage::see_to_passage(&self.state)?;
        storage::write_shared(&self.state.join(HALT), format!("{since}\n").as_bytes())
    }

    /// Lets runs begin again; tells whether they could not.
    pub fn lift_halt(&self) -> std::io::Result<bool> {
        storage::remove(&self.state.join(HALT))
    }

    /// Closes to other users what an older twin left open to them; only root can, and what cannot be closed now is tried again.
    pub fn close(&self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let open = |path: &Path| {
            let mode = path.metadata().map(|found| found.mode());
            mode.is_ok_and(|mode| mode & 0o006 != 0)
        };
        for file in ["self-test.json", "accelerator.json", HALT, "journal.sqlite"] {
            let path = self.state.join(file);
            if open(&path) {
                let _ = storage::share(&path);
            }
        }
        let log = self.state.join("log");
        if open(&log) {
            let _ = storage::make_directory(&log, 0o750);
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
        self.lab(lab).join(BASELINES)
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
        storage::make_passage(path).map_err(LabError::io(format!("making {}", path.display())))
    }

    /// Makes the pool, or lets QEMU's user pass through it, and through the state directory.
    pub(crate) fn see_to_pool(&self) -> Result<(), LabError> {
        for path in [self.state.clone(), self.pool()] {
            let seen_to = storage::see_to_passage(&path);
            seen_to.map_err(LabError::io(format!("making {}", path.display())))?;
        }
        Ok(())
    }

    /// Makes a directory that QEMU's user can pass through, and members of the group libvirt can list.
    pub(crate) fn make_shared(path: &Path) -> Result<(), LabError> {
        storage::make_shared(path).map_err(LabError::io(format!("making {}", path.display())))
    }

    /// Where contents of guests' files are kept that a run of a lab will put back: root's alone.
    pub(crate) fn captured(&self, lab: Uuid) -> PathBuf {
        self.state.join("captured").join(lab.to_string())
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
        storage::write_shared(&file, &text)
            .map_err(LabError::io(format!("writing {}", file.display())))
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
        self.see_to_pool()?;
        Self::make_shared(&self.pool().join("labs"))?;
        self.sweep(record.uuid)?;
        if directory.exists() {
            Self::make_shared(&directory)?;
            return write_record(&directory, record);
        }
        let draft = directory.with_extension(MAKING);
        Self::make_shared(&draft)?;
        write_record(&draft, record)?;
        storage::rename(&draft, &directory)
            .map_err(LabError::io(format!("making {}", directory.display())))
    }

    /// Whether a lab's directory has its mark.
    pub(crate) fn is_marked(&self, lab: Uuid) -> bool {
        self.lab(lab).join(RECORD).exists()
    }

    /// What removing a lab's directory would leave, and why. `hosts` are the lab's.
    pub(crate) fn survey_lab(
        &self,
        lab: Uuid,
        hosts: &[&str],
        users: &Users,
    ) -> Result<Vec<Left>, LabError> {
        let directory = self.lab(lab);
        let known = |path: &Path| lab_names(&directory, hosts, path);
        storage::survey(&directory, &known, users)
            .map_err(LabError::io(format!("reading {}", directory.display())))
    }

    /// Removes what twin made of a lab's directory. Called with the lab's lock held. Where something stays, it stays where it
    /// is: another domain may name it there.
    pub(crate) fn remove_lab(
        &self,
        lab: Uuid,
        hosts: &[&str],
        users: &Users,
    ) -> Result<Removal, LabError> {
        let directory = self.lab(lab);
        let failed = || LabError::io(format!("removing {}", directory.display()));
        self.sweep(lab)?;
        let known = |path: &Path| lab_names(&directory, hosts, path);
        // Where something is aside that is not twin's, this one goes where it is.
        let aside = directory.with_extension(REMOVING);
        let whole =
            aside.symlink_metadata().is_err() && self.survey_lab(lab, hosts, users)?.is_empty();
        if whole {
            // It is there whole, with its mark, or not at all.
            match storage::rename(&directory, &aside) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(Removal::default());
                }
                Err(error) => return Err(failed()(error)),
            }
            let known = |path: &Path| lab_names(&aside, hosts, path);
            let left = storage::remove_known(&aside, &known, users).map_err(failed())?;
            return Ok(Removal {
                removed: true,
                left,
            });
        }
        let left = storage::remove_known(&directory, &known, users).map_err(failed())?;
        Ok(Removal {
            removed: true,
            left,
        })
    }

    /// Removes contents of guests' files that a lab's runs would have put back.
    pub(crate) fn forget_captured(&self, lab: Uuid) -> Result<(), LabError> {
        let directory = self.captured(lab);
        let known = |path: &Path| {
            let own = path.to_str().is_some_and(|name| name.contains('-'));
            if own { Known::File } else { Known::No }
        };
        storage::remove_known(&directory, &known, &Users::default())
            .map(drop)
            .map_err(LabError::io(format!("removing {}", directory.display())))
    }

    /// Removes the directory of the self-test's throw-away VM.
    pub(crate) fn clear_self_test(&self, lab: Uuid) -> Result<(), LabError> {
        self.remove_lab(lab, &[], &Users::default()).map(drop)
    }

    /// Removes what a twin that died left of a lab's directory while it made or removed it; returns what there was. Called with
    /// the lab's lock held. Only a directory that carries the lab's own record is removed, or one with nothing in it.
    pub(crate) fn sweep(&self, lab: Uuid) -> Result<Vec<PathBuf>, LabError> {
        let mut swept = Vec::new();
        for word in [MAKING, REMOVING] {
            let path = self.lab(lab).with_extension(word);
            if !path.is_dir() {
                continue;
            }
            let own = read_record(&path).is_some_and(|record| record.uuid == lab);
            let known = |inner: &Path| match inner.to_str() {
                Some(RECORD_DRAFT) => Known::File,
                _ if own => lab_names(&path, &[], inner),
                _ => Known::No,
            };
            let left = storage::remove_known(&path, &known, &Users::default())
                .map_err(LabError::io(format!("removing {}", path.display())))?;
            if left.is_empty() {
                swept.push(path);
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
                Some((uuid, read_record(&entry.path())))
            })
            .collect()
    }
}

fn write_record(directory: &Path, record: &LabRecord) -> Result<(), LabError> {
    let text = serde_json::to_vec_pretty(record).unwrap_or_default();
    let file = directory.join(RECORD);
    storage::write_shared(&file, &text).map_err(LabError::io(format!("writing {}", file.display())))
}

fn read_record(directory: &Path) -> Option<LabRecord> {
    let bytes = std::fs::read(directory.join(RECORD)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What was done about a lab's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Whether there was one.
    pub(crate) removed: bool,
    /// What stays of it.
    pub(crate) left: Vec<Left>,
}

/// What a path in the lab's directory `root` is. A directory is a host's where the lab has that host, or where one of the
/// files is in it that twin makes for hosts, or nothing at all.
fn lab_names(root: &Path, hosts: &[&str], path: &Path) -> Known {
    let mut parts = path.iter().filter_map(|part| part.to_str());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(RECORD), None, None) => Known::LastFile,
        (Some(RECORD_DRAFT | EXPECTED), None, None) => Known::File,
        (Some(BASELINES), None, None) => Known::Directory,
        (Some(BASELINES), Some(name), None) => baseline_directory(&root.join(BASELINES).join(name)),
        (Some(BASELINES), Some(_), Some(file)) => baseline_file(file),
        (Some(name), None, None) if is_host_file(name) || SELF_TEST.contains(&name) => Known::File,
        (Some(host), None, None)
            if hosts.contains(&host) || is_host_directory(&root.join(host)) =>
        {
            Known::Directory
        }
        (Some(_), Some(file), None) if is_host_file(file) => Known::File,
        _ => Known::No,
    }
}

/// Files of the self-test's throw-away VM, which has no directory of its own below the lab's.
const SELF_TEST: [&str; 3] = ["disk.qcow2", "golden.ram", "sector.raw"];

fn is_host_directory(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    let mut names = entries.flatten().map(|entry| entry.file_name()).peekable();
    names.peek().is_none() || names.any(|name| name.to_str().is_some_and(is_host_file))
}

/// A guest's SSH host key, and the file by which it is believed. They last as long as the guest's disk does.
pub(crate) const HOST_KEY: &str = "ssh_host_key";
pub(crate) const KNOWN_HOSTS: &str = "known_hosts";

/// The file with the boot of this machine in which a host was started; there until it is switched off.
pub(crate) const BOOT: &str = "boot";

/// Whether twin makes, or has made, a file of this name in a host's directory.
pub(crate) fn is_host_file(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let whole = name.strip_suffix(".draft").unwrap_or(name);
    if matches!(
        whole,
        "seed.iso" | "guest.sock" | "serial.log" | HOST_KEY | KNOWN_HOSTS | BOOT
    ) {
        return true;
    }
    // virtlogd keeps a few full logs beside the one that it writes.
    if let Some(number) = name.strip_prefix("serial.log.") {
        return digits(number);
    }
    let Some((number, rest)) = name
        .strip_prefix("disk")
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let kind = rest.strip_prefix("qcow2.released-").map_or_else(
        || matches!(rest, "qcow2" | "draft" | "unmended"),
        // A scenario's `host-release` puts disks aside.
        hex,
    );
    digits(number) && kind
}

/// The file in a baseline's directory with its id, and the one that makes it a baseline.
const BASELINE_ID: &str = "id";
const BASELINE_MANIFEST: &str = "manifest.json";

/// A baseline's directory carries an id of twin's, or has nothing in it yet.
fn baseline_directory(directory: &Path) -> Known {
    let own = [BASELINE_ID, BASELINE_MANIFEST]
        .iter()
        .any(|file| directory.join(file).is_file());
    let empty = || std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    if own || empty() {
        Known::Directory
    } else {
        Known::No
    }
}

/// What a file in a baseline's directory is.
fn baseline_file(name: &str) -> Known {
    match name {
        BASELINE_ID => Known::LastFile,
        BASELINE_MANIFEST | "manifest.draft" | "manifest.json.draft" | "id.draft" | "ballast" => {
            Known::File
        }
        _ if name.ends_with(".ram") || name.ends_with(".nvram") => Known::File,
        _ => Known::No,
    }
}

/// Removes a baseline's directory, or what is there of one: only files that twin makes, and only where it carries an id of
/// twin's or is empty. Returns what stays.
pub(crate) fn remove_baseline(directory: &Path) -> std::io::Result<Vec<Left>> {
    let own = baseline_directory(directory) == Known::Directory;
    let known = |path: &Path| match path.to_str() {
        Some(name) if own => baseline_file(name),
        _ => Known::No,
    };
    storage::remove_known(directory, &known, &Users::default())
}

/// Removes what twin made in a host's directory, but for its disks and what is known of the guest on them. Returns what else
/// is there.
pub(crate) fn clear_host(directory: &Path) -> std::io::Result<Vec<Left>> {
    let stays =
        |name: &str| name.starts_with("disk") || matches!(name, HOST_KEY | KNOWN_HOSTS | BOOT);
    let known = |path: &Path| match path.to_str() {
        Some(name) if is_host_file(name) && !stays(name) => Known::File,
        _ => Known::No,
    };
    let left = storage::remove_known(directory, &known, &Users::default())?;
    let own = |left: &Left| {
        let name = left.path.file_name().and_then(|name| name.to_str());
        name.is_some_and(is_host_file)
    };
    Ok(left.into_iter().filter(|left| !own(left)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_only_names_that_twin_makes_are_a_hosts_files() {
        for own in [
            "disk0.qcow2",
            "disk12.draft",
            "disk0.qcow2.released-0123456789ab",
            "seed.iso",
            "serial.log",
            "serial.log.0",
            "guest.sock",
        ] {
            assert!(is_host_file(own), "{own}");
        }
        for other in [
            "disk0.snap1",
            "disk.qcow2",
            "disk0-clone.qcow2",
            "disk0.qcow2.bak",
            "serial.log.gz",
            "notes",
            "debian.iso",
            "disk0.qcow2.released-x",
        ] {
            assert!(!is_host_file(other), "{other}");
        }
    }

    #[test]
    fn a8_a_directory_with_nothing_in_it_is_a_hosts_that_was_being_made() {
        let root = tempfile::tempdir().expect("a directory");
        let known = |name: &str| lab_names(root.path(), &[], Path::new(name));
        for name in ["a", "notes"] {
            std::fs::create_dir(root.path().join(name)).expect("made");
            assert!(matches!(known(name), Known::Directory), "{name}");
        }
        std::fs::write(root.path().join("notes/today"), "an operator's").expect("written");
        assert!(matches!(known("notes"), Known::No));
        std::fs::write(root.path().join("a/serial.log"), "").expect("written");
        assert!(matches!(known("a"), Known::Directory));
    }

    #[test]
    fn a8_a_directory_without_an_id_is_no_baseline_to_remove() {
        let directory = tempfile::tempdir().expect("a directory");
        let notes = directory.path().join("notes");
        std::fs::create_dir(&notes).expect("made");
        std::fs::write(notes.join("a.ram"), "an operator's").expect("written");
        let left = remove_baseline(&notes).expect("looked at");
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(notes.join("a.ram").exists());
        std::fs::write(notes.join("id"), "x").expect("written");
        assert_eq!(remove_baseline(&notes).expect("removed"), []);
        assert!(!notes.exists());
    }
}
