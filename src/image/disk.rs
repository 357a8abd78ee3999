//! Disk files.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::packages::{last_words, run, run_to_end};
use super::qcow2::{self, StateChecksums};
use super::{ImageError, Lent, lent};
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

impl CheckedDisk {
    /// Of a disk that cannot even be opened.
    const fn unreadable() -> Self {
        Self {
            errors: 1,
            leaks: 0,
            unread: 0,
        }
    }
}

/// Has qemu-img check the tables of a disk that no process has open. Nothing is written.
pub async fn check_disk(path: &Path) -> Result<CheckedDisk, ImageError> {
    // Mending that was broken off is done again.
    if original_of(path).exists() {
        return Ok(CheckedDisk::unreadable());
    }
    check_tables(path).await
}

async fn check_tables(path: &Path) -> Result<CheckedDisk, ImageError> {
    // QEMU opens no image that twin's own reader does not take for one.
    if qcow2::chain(path).is_err() {
        return Ok(CheckedDisk::unreadable());
    }
    let (output, said) = on_disk(path, &["check", "--output=json"], None).await?;
    // It ends with 2 or 3 where it found something, and says what all the same.
    let found: Option<CheckedDisk> = serde_json::from_slice(&output.stdout).ok();
    match found {
        Some(found) => Ok(CheckedDisk {
            errors: found.errors + found.unread,
            ..found
        }),
        None if could_not_look(&said) => Err(ImageError::Tool {
            tool: format!("qemu-img check {}", path.display()),
            why: said,
        }),
        None => Ok(CheckedDisk::unreadable()),
    }
}

/// Whether it says nothing of the disk itself: a guest has it, QEMU's user cannot reach it, or it was not started at all.
fn could_not_look(said: &str) -> bool {
    said.contains("lock")
        || said.contains("Permission denied")
        || ["prlimit:", "setsid:", "setpriv:"]
            .iter()
            .any(|starter| said.starts_with(starter))
}

/// What a disk was before it is mended, beside it: it is there only while that is under way, and takes the disk's place again
/// where it is broken off.
fn original_of(disk: &Path) -> PathBuf {
    disk.with_extension("unmended")
}

/// What came of mending a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Its tables are without errors; what it holds, and all states in it, are what they were.
    Whole,
    /// It stays as it was, and why.
    No(String),
}

/// Has qemu-img mend the tables of a disk that no process has open. A copy is kept until it is known that nothing in it has
/// changed but its tables.
pub async fn mend_disk(path: &Path) -> Result<Mended, ImageError> {
    let original = original_of(path);
    let mending = || ImageError::io(format!("mending {}", path.display()));
    if original.exists() {
        storage::rename(&original, path).map_err(mending())?;
    }
    let before = match contents(path).await? {
        Ok(before) => before,
        Err(why) => return Ok(Mended::No(why)),
    };
    let draft = draft_of(path);
    remove_draft(path)?;
    let mut copy = Command::new("cp");
    copy.args(["--reflink=auto", "--sparse=always", "--preserve=mode", "--"]);
    run(copy.arg(path).arg(&draft).process_group(0), COPY).await?;
    storage::place(&draft, &original).map_err(mending())?;
    let mended = mended(path, &before).await;
    match mended {
        Ok(Mended::Whole) => {
            storage::sync_file(path).map_err(mending())?;
            storage::remove(&original).map_err(mending())?;
        }
        _ => storage::rename(&original, path).map_err(mending())?,
    }
    mended
}

async fn mended(path: &Path, before: &Contents) -> Result<Mended, ImageError> {
    // It ends with what it found at first; what counts is what is there afterwards.
    let (_, said) = on_disk(path, &["check", "-q", "-r", "all"], None).await?;
    if could_not_look(&said) {
        let tool = format!("qemu-img check -r all {}", path.display());
        return Err(ImageError::Tool { tool, why: said });
    }
    if check_tables(path).await?.errors > 0 {
        return Ok(Mended::No(
            "qemu-img check -r all leaves errors in it".into(),
        ));
    }
    Ok(match contents(path).await? {
        Ok(after) if after == *before => Mended::Whole,
        Ok(_) => Mended::No("mended, it would not hold what it does".into()),
        Err(why) => Mended::No(why),
    })
}

/// What a disk holds: its name for each state with the checksums of it, and those of the disk as it is now.
type Contents = Vec<(String, StateChecksums)>;

/// Reads all that a disk holds; or tells why that cannot be read.
async fn contents(path: &Path) -> Result<Result<Contents, String>, ImageError> {
    let file = path.to_owned();
    let read = move || -> Result<Contents, qcow2::Qcow2Error> {
        let image = qcow2::Qcow2::open(&file)?;
        let mut all = vec![(String::new(), image.active_checksums()?)];
        for state in image.snapshots()? {
            all.push((state.name.clone(), image.checksums(&state)?));
        }
        Ok(all)
    };
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|error| {
        ImageError::io(format!("reading {}", path.display()))(std::io::Error::other(error))
    })?;
    match read {
        Err(qcow2::Qcow2Error::Io { what, source }) => Err(ImageError::Io { what, source }),
        read => Ok(read.map_err(|error| error.to_string())),
    }
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
    let size = format!("{}M", disk.size.0);
    let (output, why) = on_disk(&disk.path, &["resize", "-q"], Some(&size)).await?;
    if output.status.success() {
        return Ok(());
    }
    let tool = format!("qemu-img resize {}", disk.path.display());
    Err(ImageError::Tool { tool, why })
}

/// Runs qemu-img on a disk that no process has open; returns its last words too.
async fn on_disk(
    path: &Path,
    arguments: &[&str],
    last: Option<&str>,
) -> Result<(Output, String), ImageError> {
    let lending = ImageError::io(format!("lending {} to qemu-img", path.display()));
    let disk = path.to_owned();
    // Another twin may have lent it.
    let lent = tokio::task::spawn_blocking(move || Lent::new(&disk)).await;
    let lent = lent.map_err(std::io::Error::other).flatten();
    let lent = lent.map_err(lending)?;
    let mut command = Command::from(lent.qemu_img(arguments, last));
    let output = run_to_end(&mut command, LOCAL).await?;
    let said = lent.said(&output.stderr);
    Ok((output, last_words(said.as_bytes())))
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
    let user = lent::borrower();
    if let Some((user, _)) = user {
        std::os::unix::fs::fchown(&file, Some(user), None).map_err(making())?;
    }
    let (start, words) = tools::limited("qemu-img", Limits::IMAGE, user);
    let mut create = Command::new(start);
    create.args(words);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn run(program: &str, arguments: &[&str]) {
        let output = std::process::Command::new(program).args(arguments).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{program} {arguments:?}");
    }

    /// A disk with something on it and a state, in a directory that QEMU's user passes through; and where its first reference
    /// counts are.
    fn disk(directory: &Path) -> (PathBuf, u64) {
        let passage = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(directory, passage).expect("opened");
        let path = directory.join("disk0.qcow2");
        let shown = path.to_str().expect("a path");
        run("qemu-img", &["create", "-q", "-f", "qcow2", shown, "8M"]);
        run("qemu-io", &["-c", "write -P 3 0 64k", shown]);
        run("qemu-img", &["snapshot", "-c", "twin-one", shown]);
        run("qemu-io", &["-c", "write -P 4 0 256k", shown]);
        let file = std::fs::File::open(&path).expect("opened");
        let number = |at: u64| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).expect("read");
            u64::from_be_bytes(bytes)
        };
        (path, number(number(48)))
    }

    fn write(path: &Path, at: u64, bytes: &[u8]) {
        let file = std::fs::File::options().write(true).open(path);
        file.expect("opened")
            .write_all_at(bytes, at)
            .expect("written");
    }

    #[tokio::test]
    async fn d1_tables_are_mended_and_what_the_disk_holds_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, counts) = disk(directory.path());
        let held = contents(&path).await.expect("read").expect("whole");
        let inode = path.metadata().expect("there").ino();
        write(&path, counts, &[0; 16]);
        assert!(check_disk(&path).await.expect("checked").errors > 0);
        assert_eq!(mend_disk(&path).await.expect("mended"), Mended::Whole);
        assert_eq!(check_disk(&path).await.expect("checked").errors, 0);
        assert_eq!(contents(&path).await.expect("read"), Ok(held.clone()));
        assert_eq!(path.metadata().expect("there").ino(), inode);

        // Broken off in the middle: what it was is beside it, and is what counts.
        std::fs::copy(&path, original_of(&path)).expect("copied");
        write(&path, 0, &[0; 4096]);
        assert!(check_disk(&path).await.expect("checked").errors > 0);
        assert_eq!(mend_disk(&path).await.expect("mended"), Mended::Whole);
        assert_eq!(contents(&path).await.expect("read"), Ok(held));
        assert!(!original_of(&path).exists() && !draft_of(&path).exists());
    }

    #[tokio::test]
    async fn d1_a_disk_that_would_not_hold_the_same_stays_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, _) = disk(directory.path());
        // The active L1 table leads behind the end of the file: mended, the disk would have a hole there.
        let l1 = {
            let mut bytes = [0; 8];
            let file = std::fs::File::open(&path).expect("opened");
            file.read_exact_at(&mut bytes, 40).expect("read");
            u64::from_be_bytes(bytes)
        };
        write(&path, l1, &0x8000_00ff_ffff_0000_u64.to_be_bytes());
        let was = std::fs::read(&path).expect("read");
        assert!(check_disk(&path).await.expect("checked").errors > 0);
        let outcome = mend_disk(&path).await.expect("tried");
        assert!(matches!(outcome, Mended::No(_)), "{outcome:?}");
        assert_eq!(std::fs::read(&path).expect("read"), was);
        assert!(!original_of(&path).exists());
    }
}
