//! Writes that survive a power loss.
//!
//! ```text
//!   write NAME.draft ──> fsync ──> rename to NAME ──> fsync of the directory
//! ```
//!
//! Whatever stops this, NAME has its old content or its new one, and what a caller was told is done is on the disk.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, RenameFlags, renameat_with};

/// What a file is called while it is written.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".draft");
    name.into()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes `bytes` to `path`, of which the file has all or none.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_of(path);
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&draft)?;
        // An earlier draft of another mode may have been there; the umask may have taken bits away.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    };
    if let Err(error) = written() {
        // The draft is of no use; the error that matters is the first.
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    sync_directory(parent(path))
}

/// Sees to it that what a directory lists is on the disk.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Renames over whatever has the name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_both(from, to)
}

/// Gives a finished file its name where nothing has that yet; what has it stays, and that is an error.
pub fn place(draft: &Path, path: &Path) -> io::Result<()> {
    sync_file(draft)?;
    renameat_with(
        rustix::fs::CWD,
        draft,
        rustix::fs::CWD,
        path,
        RenameFlags::NOREPLACE,
    )?;
    sync_both(draft, path)
}

/// Gives a finished file its name, in the place of whatever has that.
pub fn replace(draft: &Path, path: &Path) -> io::Result<()> {
    sync_file(draft)?;
    rename(draft, path)
}

/// Sees to it that a file's content is on the disk.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_both(from: &Path, to: &Path) -> io::Result<()> {
    sync_directory(parent(to))?;
    if parent(from) != parent(to) {
        sync_directory(parent(from))?;
    }
    Ok(())
}

/// Removes a file. A missing one is not an error; returns whether there was one.
pub fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a directory with exactly this mode, and those above it that are missing.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    // The umask takes bits away that QEMU's user needs to pass through.
    let set_mode = || std::fs::set_permissions(path, Permissions::from_mode(mode));
    if path.exists() {
        return set_mode();
    }
    if !parent(path).exists() {
        make_directory(parent(path), mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    // Before anything that can fail: a second call may not come.
    set_mode()?;
    sync_directory(parent(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_above_get_the_same_mode_whatever_the_umask() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = directory.path().join("a/b/c");
        // umask is a process's: another test's files would change with it. 0o777 is more than any umask lets through.
        make_directory(&deep, 0o777).expect("made");
        for made in ["a", "a/b", "a/b/c"] {
            let mode = directory
                .path()
                .join(made)
                .metadata()
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o777, "{made}");
        }
        make_directory(&deep, 0o711).expect("there already");
    }

    #[test]
    fn a_write_replaces_content_and_mode_and_leaves_no_draft() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("f");
        std::fs::write(&file, "old, and longer").expect("written");
        write(&file, b"new", 0o640).expect("written");
        assert_eq!(std::fs::read(&file).expect("read"), b"new");
        let mode = std::fs::metadata(&file)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("read").count(),
            1
        );
    }

    #[test]
    fn a_draft_that_is_a_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, victim) = (directory.path().join("f"), directory.path().join("victim"));
        std::fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, directory.path().join("f.draft")).expect("linked");
        assert!(write(&file, b"new", 0o600).is_err());
        assert_eq!(std::fs::read(&victim).expect("read"), b"precious");
    }

    #[test]
    fn placing_never_takes_the_place_of_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (draft, file) = (directory.path().join("d"), directory.path().join("f"));
        std::fs::write(&draft, "blank").expect("written");
        std::fs::write(&file, "precious").expect("written");
        let error = place(&draft, &file).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).expect("read"), b"precious");
        replace(&draft, &file).expect("replaced");
        assert_eq!(std::fs::read(&file).expect("read"), b"blank");
    }
}
