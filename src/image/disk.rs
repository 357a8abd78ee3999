//! Disk files.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::packages::run;
use super::{ImageError, qcow2};
use crate::model::spec::DiskSpec;
use crate::storage;
use crate::tools::{self, Limits};

const LOCAL: Duration = Duration::from_secs(120);

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

/// Makes a disk larger that no process has open; what is on it stays.
pub async fn grow_disk(disk: &DiskSpec) -> Result<(), ImageError> {
    qcow2::chain(&disk.path).map_err(|error| ImageError::Tool {
        tool: format!("reading {}", disk.path.display()),
        why: error.to_string(),
    })?;
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
