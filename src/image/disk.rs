//! Disk files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::ImageError;
use super::packages::run;
use crate::model::spec::DiskSpec;
use crate::storage;
use crate::units::Mib;

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
    let mut resize = Command::new("qemu-img");
    resize.process_group(0);
    resize.args(["resize", "-q", "-f", "qcow2", "--"]);
    resize.arg(&disk.path).arg(format!("{}M", disk.size.0));
    run(&mut resize, LOCAL).await.map(drop)
}

async fn draft(disk: &DiskSpec) -> Result<PathBuf, ImageError> {
    let draft = draft_of(&disk.path);
    remove_draft(&disk.path)?;
    let mut create = Command::new("qemu-img");
    // Ctrl-C at a terminal is for twin, which may be in the middle of an undo.
    create.process_group(0);
    create.args(["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=off"]);
    if let Some((backing, format)) = &disk.backing {
        create.arg("-b").arg(backing).args(["-F", format]);
    }
    create.arg("--");
    create.arg(&draft).arg(format!("{}M", disk.size.0));
    run(&mut create, LOCAL).await?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))
        .map_err(ImageError::io(format!("making {}", draft.display())))?;
    Ok(draft)
}

/// Returns the size of a qcow2 as a guest sees it.
pub async fn qcow2_virtual_size(path: &Path) -> Result<Mib, ImageError> {
    let output = run(
        Command::new("qemu-img")
            .args(["info", "--output=json", "-U"])
            .arg(path),
        LOCAL,
    )
    .await?;
    let document: serde_json::Value =
        serde_json::from_slice(&output).map_err(|error| ImageError::Tool {
            tool: "qemu-img".into(),
            why: error.to_string(),
        })?;
    match (
        document["format"].as_str(),
        document["virtual-size"].as_u64(),
    ) {
        (Some("qcow2"), Some(bytes)) => Ok(Mib::from_bytes_ceil(bytes)),
        (format, _) => Err(ImageError::Tool {
            tool: "qemu-img".into(),
            why: format!(
                "{} is {}, and an image is qcow2",
                path.display(),
                format.unwrap_or("of no known format")
            ),
        }),
    }
}
