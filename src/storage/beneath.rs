//! Opening files in directories that others can write to.
//!
//! QEMU's user owns guests' memory files and logs, and a QEMU that was broken out of is that user. A name in such a
//! directory may be a link to any file of the machine, or a hard link, a device, a pipe. So a file is opened beneath a
//! directory that is held open, following no link, and is looked at before it is used.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// What a file has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Who owns it, where that is known.
    pub owners: Option<[u32; 2]>,
    /// The device and the inode, where that is known.
    pub inode: Option<(u64, u64)>,
}

/// A file in a directory that others can write to, with what it has to be. It is opened anew each time, and looked at each
/// time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    directory: PathBuf,
    name: PathBuf,
    expected: Expected,
}

impl Guarded {
    /// The file `name`, which may have directories in it, beneath `directory`: only root can change how that is reached.
    pub fn new(directory: &Path, name: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            expected: Expected::default(),
        }
    }

    /// A file by its path; only its last directory is one that others can write to.
    pub fn at(path: &Path) -> Self {
        let directory = path.parent().unwrap_or(Path::new("/"));
        Self::new(directory, Path::new(path.file_name().unwrap_or_default()))
    }

    /// Asks for these owners too.
    pub fn with_owners(mut self, owners: [u32; 2]) -> Self {
        self.expected.owners = Some(owners);
        self
    }

    /// Asks for this device and inode too.
    pub fn with_inode(mut self, inode: (u64, u64)) -> Self {
        self.expected.inode = Some(inode);
        self
    }

    /// Its path, to be shown.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Opens it to read.
    pub fn open(&self) -> io::Result<File> {
        self.opened(false)
    }

    /// Opens it to read and write.
    pub fn open_writable(&self) -> io::Result<File> {
        self.opened(true)
    }

    fn opened(&self, write: bool) -> io::Result<File> {
        let directory = open_directory(&self.directory)?;
        open_beneath(&directory, &self.name, write, self.expected).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path().display()))
        })
    }
}

fn refused(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, what.into())
}

/// Opens a directory; its last part must not be a link.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory that belongs to root, or to the user who runs this, and that no other can write to.
pub fn owned_directory(path: &Path) -> io::Result<OwnedFd> {
    let directory = open_directory(path)?;
    let found = fstat(&directory)?;
    let own = rustix::process::geteuid().as_raw();
    if found.st_uid != 0 && found.st_uid != own {
        let (path, owner) = (path.display(), found.st_uid);
        return Err(refused(format!(
            "{path} belongs to user {owner}, not to root"
        )));
    }
    if found.st_mode & 0o022 != 0 {
        let path = path.display();
        return Err(refused(format!(
            "others than its owner can write to {path}"
        )));
    }
    Ok(directory)
}

/// Opens the regular file `name` beneath `directory`, for writing too where `write`, following no link on the way.
pub fn open_beneath(
    directory: impl AsFd,
    name: &Path,
    write: bool,
    expected: Expected,
) -> io::Result<File> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    // A pipe in the file's place must not make this wait for its other end.
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(directory.as_fd(), name, flags, Mode::empty(), resolve);
    let file = File::from(opened.map_err(|error| match error {
        rustix::io::Errno::LOOP => refused("there is a link on the way to it"),
        rustix::io::Errno::XDEV => refused("it leads out of its directory"),
        other => other.into(),
    })?);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if found.nlink() != 1 {
        let links = found.nlink();
        return Err(refused(format!(
            "it has {links} names, and should have one"
        )));
    }
    if let Some(owners) = expected.owners
        && !owners.contains(&found.uid())
    {
        let owner = found.uid();
        return Err(refused(format!("it belongs to user {owner}")));
    }
    if let Some(inode) = expected.inode
        && inode != (found.dev(), found.ino())
    {
        return Err(refused("it is another file than the one that is in use"));
    }
    Ok(file)
}

/// Reads a text file beneath a directory: no link on the way leads out of it.
pub fn text_beneath(directory: &Path, name: &Path) -> io::Result<String> {
    let opened = rustix::fs::open(
        directory,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(openat2(&opened, name, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(refused("it is not a regular file"));
    }
    io::read_to_string(file)
}

/// Opens `name` below `directory` as a directory, following no link and crossing no mount; nothing where something else
/// is there.
pub(super) fn subdirectory(directory: impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(openat2(
        directory.as_fd(),
        name,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// Device and inode of what a path leads to.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statat(CWD, path, rustix::fs::AtFlags::empty())?;
    Ok((found.st_dev, found.st_ino))
}

/// Whether a mode is a directory's.
pub(super) fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path, name: &str, expected: Expected) -> io::Result<File> {
        let directory = open_directory(directory).expect("a directory");
        open_beneath(directory, Path::new(name), true, expected)
    }

    #[test]
    fn b3_links_pipes_and_other_files_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("sub")).expect("made");
        std::fs::write(at("sub/pc.ram"), "memory").expect("written");
        std::fs::write(at("victim"), "precious").expect("written");
        let any = Expected::default();
        assert!(open(directory.path(), "sub/pc.ram", any).is_ok());

        std::os::unix::fs::symlink(at("victim"), at("sub/link")).expect("linked");
        std::os::unix::fs::symlink(at("sub"), at("way")).expect("linked");
        std::fs::hard_link(at("victim"), at("sub/hard")).expect("linked");
        nix::unistd::mkfifo(&at("sub/pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        for name in [
            "sub/link",
            "way/pc.ram",
            "sub/hard",
            "sub/pipe",
            "../etc/passwd",
            "sub",
        ] {
            assert!(open(directory.path(), name, any).is_err(), "{name}");
        }
        let inode = identity(&at("victim")).expect("there");
        let another = Expected {
            inode: Some(inode),
            ..any
        };
        assert!(open(directory.path(), "sub/pc.ram", another).is_err());
        let theirs = Expected {
            owners: Some([12345, 12345]),
            ..any
        };
        assert!(open(directory.path(), "sub/pc.ram", theirs).is_err());
    }

    #[test]
    fn b2_a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().join("own");
        std::fs::create_dir(&own).expect("made");
        let mode = |mode| std::fs::set_permissions(&own, std::fs::Permissions::from_mode(mode));
        mode(0o700).expect("set");
        assert!(owned_directory(&own).is_ok());
        for open in [0o720, 0o702, 0o777, 0o1777] {
            mode(open).expect("set");
            assert!(owned_directory(&own).is_err(), "{open:o}");
        }
        mode(0o700).expect("set");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&own, &link).expect("linked");
        assert!(owned_directory(&link).is_err());
    }
}
