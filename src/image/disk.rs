//! Disk files.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::ImageError;
use super::packages::{last_words, run, run_to_end};
use super::qcow2::{self, StateChecksums};
use crate::model::spec::DiskSpec;
use crate::storage;
use crate::tools::{self, Limits};

const LOCAL: Duration = Duration::from_secs(120);

/// Copying a disk, where the file system cannot share its blocks.
const COPY: Duration = Duration::from_secs(1800);

/// What a disk is while it is made.
fn draft_of(disk: &Path) -> PathBuf {
    disk.with_extension("draft")
}

/// Removes what a twin that was killed while it made a disk has left; there is none most of the time.
pub fn remove_draft(disk: &Path) -> Result<(), ImageError> {
    let draft = draft_of(disk);
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ImageError::io(format!(
            "removing {}",
            draft.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// Makes a host's disk where there is none: 0600, formats explicit, complete or not there at all. A file that is there
/// stays as it is, and that is an error.
pub async fn create_disk(disk: &DiskSpec) -> Result<(), ImageError> {
    if disk.path.symlink_metadata().is_ok() {
        let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(ImageError::io(format!("making {}", disk.path.display()))(
            taken,
        ));
    }
    let draft = draft(disk).await?;
    storage::place(&draft, &disk.path)
        .map_err(ImageError::io(format!("making {}", disk.path.display())))
}

/// Makes a host's disk blank, whatever is on it; complete or as it was.
pub async fn blank_disk(disk: &DiskSpec) -> Result<(), ImageError> {
    let draft = draft(disk).await?;
    storage::replace(&draft, &disk.path)
        .map_err(ImageError::io(format!("making {}", disk.path.display())))
}

/// What qemu-img says of a disk's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct CheckedDisk {
    /// Places that are wrong, or could not be read.
    #[serde(default, rename = "corruptions")]
    pub errors: u64,
    /// Clusters that nothing uses and that are not free.
    #[serde(default)]
    pub leaks: u64,
    #[serde(default, rename = "check-errors")]
    unread: u64,
}

/// Has qemu-img check the tables of a disk that no process has open. Nothing is written.
pub async fn check_disk(path: &Path) -> Result<CheckedDisk, ImageError> {
    readable(path)?;
    let mut check = qemu_img(None);
    check.args(["check", "--output=json", "-f", "qcow2", "--"]);
    let output = run_to_end(check.arg(path), LOCAL).await?;
    // It ends with 2 or 3 where it found something, and says what all the same.
    let found: Result<CheckedDisk, _> = serde_json::from_slice(&output.stdout);
    match found {
        Ok(found) => Ok(CheckedDisk {
            errors: found.errors + found.unread,
            ..found
        }),
        Err(_) => Err(ImageError::Tool {
            tool: format!("qemu-img check {}", path.display()),
            why: last_words(&output.stderr),
        }),
    }
}

/// Has qemu-img mend the tables of a disk that no process has open: in a copy, which takes the disk's place where it is without
/// errors then and all states in it are what they were. Otherwise the disk stays as it is, and that is an error.
pub async fn mend_disk(path: &Path) -> Result<(), ImageError> {
    readable(path)?;
    remove_draft(path)?;
    let draft = draft_of(path);
    let mended = mended(path, &draft).await;
    let kept = mended.and_then(|()| {
        storage::replace(&draft, path)
            .map_err(ImageError::io(format!("mending {}", path.display())))
    });
    if kept.is_err() {
        // It may not be there; the error that matters is the first.
        let _ = remove_draft(path);
    }
    kept
}

async fn mended(path: &Path, draft: &Path) -> Result<(), ImageError> {
    let mut copy = Command::new("cp");
    copy.args(["--reflink=auto", "--sparse=always", "--"]);
    run(copy.args([path, draft]).process_group(0), COPY).await?;
    let failed = |why: &str| ImageError::Tool {
        tool: format!("mending {}", path.display()),
        why: why.to_owned(),
    };
    let mut mend = qemu_img(None);
    mend.args(["check", "-q", "-r", "all", "-f", "qcow2", "--"]);
    // It ends with what it found at first; what counts is what is there afterwards.
    run_to_end(mend.arg(draft), LOCAL).await?;
    if check_disk(draft).await?.errors > 0 {
        return Err(failed("qemu-img check -r all leaves errors in it"));
    }
    if states(path).await? != states(draft).await? {
        return Err(failed("the states in it would not be what they were"));
    }
    Ok(())
}

/// The states in a disk, with the checksums of all that each holds.
async fn states(path: &Path) -> Result<Vec<(String, StateChecksums)>, ImageError> {
    let file = path.to_owned();
    let read = move || -> Result<_, qcow2::Qcow2Error> {
        let image = qcow2::Qcow2::open(&file)?;
        let states = image.snapshots()?.into_iter();
        states
            .map(|state| Ok((state.name.clone(), image.checksums(&state)?)))
            .collect()
    };
    let read = tokio::task::spawn_blocking(read).await;
    let unread = |why: String| ImageError::Tool {
        tool: format!("reading {}", path.display()),
        why,
    };
    read.map_err(|error| unread(error.to_string()))?
        .map_err(|error| unread(error.to_string()))
}

/// Refuses what twin's own reader does not take for an image: QEMU opens no other.
fn readable(path: &Path) -> Result<(), ImageError> {
    let read = qcow2::chain(path).map(drop);
    read.map_err(|error| ImageError::Tool {
        tool: format!("reading {}", path.display()),
        why: error.to_string(),
    })
}

/// Makes a disk larger that no process has open; what is on it stays.
pub async fn grow_disk(disk: &DiskSpec) -> Result<(), ImageError> {
    readable(&disk.path)?;
    let mut resize = qemu_img(None);
    resize.args(["resize", "-q", "-f", "qcow2", "--"]);
    resize.arg(&disk.path).arg(format!("{}M", disk.size.0));
    run(&mut resize, LOCAL).await.map(drop)
}

async fn draft(disk: &DiskSpec) -> Result<PathBuf, ImageError> {
    let draft = draft_of(&disk.path);
    remove_draft(&disk.path)?;
    let making = || ImageError::io(format!("making {}", draft.display()));
    // The file is twin's, 0600 from the first moment, and lent to the user that qemu-img runs as: it opens nothing else, not
    // even the file below, whose name it only writes down.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(making())?;
    let user = storage::emulator();
    if let Some((user, group)) = user.filter(|_| rustix::process::geteuid().is_root()) {
        std::os::unix::fs::fchown(&file, Some(user), Some(group)).map_err(making())?;
    }
    let mut create = qemu_img(user);
    create.args([
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-o",
        "lazy_refcounts=off",
    ]);
    if let Some((backing, format)) = &disk.backing {
        create.arg("-b").arg(backing).args(["-F", format]);
    }
    create.arg("--");
    create.arg(&draft).arg(format!("{}M", disk.size.0));
    run(&mut create, LOCAL).await?;
    let own = rustix::process::geteuid().as_raw();
    std::os::unix::fs::fchown(&file, Some(own), None)
        .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(making())?;
    Ok(draft)
}

/// qemu-img within limits, as another user where one is given. Ctrl-C at a terminal is for twin, which may be in the middle of
/// an undo.
fn qemu_img(user: Option<(u32, u32)>) -> Command {
    let (start, words) = tools::limited("qemu-img", Limits::IMAGE, user);
    let mut command = Command::new(start);
    command.args(words).process_group(0);
    command
}
