//! Removing by known names: what twin did not make stays, and is named.
//!
//! An operator may have put notes or an ISO below a lab's directory, or mounted something there; `virt-clone` puts the
//! copy's disk beside the original. A removal therefore walks the directory, takes away what a table of names knows, and
//! says what it left and why. It follows no link and crosses no mount.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, statat, unlinkat};

use super::beneath::{identity, is_directory, open_directory, subdirectory};
use super::sync_directory;

/// Directories that are walked into below the one that is removed.
const DEPTH: usize = 3;

/// What a table of names says of a path relative to the directory that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A file of twin's.
    File,
    /// A file of twin's that goes last: while it is there, the directory is known for what it is.
    LastFile,
    /// A directory of twin's, in which the table knows names too.
    Directory,
    /// Not twin's.
    No,
}

/// Something that was not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// Why it stays.
    pub why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.why)
    }
}

/// Who else uses files, by device and inode, so that no link or other name hides a use.
#[derive(Clone, Debug, Default)]
pub struct Users(HashMap<(u64, u64), Vec<String>>);

impl Users {
    /// Notes that `user` uses a file; one that is not there is not used.
    pub fn note(&mut self, file: &Path, user: &str) {
        let Ok(identity) = identity(file) else {
            return;
        };
        let users = self.0.entry(identity).or_default();
        if !users.iter().any(|known| known == user) {
            users.push(user.to_owned());
        }
    }

    /// Who uses a file.
    pub fn of(&self, file: &Path) -> &[String] {
        identity(file).map_or(&[], |identity| self.at(identity))
    }

    fn at(&self, identity: (u64, u64)) -> &[String] {
        self.0.get(&identity).map_or(&[], Vec::as_slice)
    }
}

/// Tells what [`remove_known`] would leave.
pub fn survey(
    directory: &Path,
    known: &dyn Fn(&Path) -> Known,
    users: &Users,
) -> io::Result<Vec<Left>> {
    walk(directory, known, users, false)
}

/// Removes what `known` knows below `directory`, and the directory where nothing is left in it. Returns what stays. A
/// directory that is not there is not an error.
pub fn remove_known(
    directory: &Path,
    known: &dyn Fn(&Path) -> Known,
    users: &Users,
) -> io::Result<Vec<Left>> {
    let left = walk(directory, known, users, true)?;
    if left.is_empty() {
        match std::fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(left),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                let why = "something is mounted there".to_owned();
                let path = directory.to_owned();
                return Ok(vec![Left { path, why }]);
            }
            Err(error) => return Err(error),
        }
        if let Some(parent) = directory.parent() {
            sync_directory(parent)?;
        }
    }
    Ok(left)
}

fn walk(
    directory: &Path,
    known: &dyn Fn(&Path) -> Known,
    users: &Users,
    act: bool,
) -> io::Result<Vec<Left>> {
    let opened = match open_directory(directory) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut walk = Walk {
        root: directory,
        known,
        users,
        act,
        left: Vec::new(),
    };
    walk.directory(&opened, Path::new(""), DEPTH)?;
    walk.left.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.left)
}

struct Walk<'w> {
    root: &'w Path,
    known: &'w dyn Fn(&Path) -> Known,
    users: &'w Users,
    act: bool,
    left: Vec<Left>,
}

impl Walk<'_> {
    fn leave(&mut self, path: &Path, why: impl Into<String>) {
        self.left.push(Left {
            path: self.root.join(path),
            why: why.into(),
        });
    }

    /// Walks one directory; returns whether all in it went, or would.
    fn directory(&mut self, opened: &OwnedFd, at: &Path, depth: usize) -> io::Result<bool> {
        let mut names = Vec::new();
        for entry in Dir::read_from(opened)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort();
        let path_of = |name: &CStr| at.join(OsStr::from_bytes(name.to_bytes()));
        let (last, first): (Vec<CString>, Vec<CString>) = names
            .into_iter()
            .partition(|name| (self.known)(&path_of(name)) == Known::LastFile);
        let mut all = true;
        for name in first.iter().chain(&last) {
            all &= self.entry(opened, name, &path_of(name), depth)?;
        }
        Ok(all)
    }

    fn entry(
        &mut self,
        opened: &OwnedFd,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> io::Result<bool> {
        let found = match statat(opened, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        match ((self.known)(path), is_directory(found.st_mode)) {
            (Known::Directory, true) if depth > 0 => {
                let inner = match subdirectory(opened, name) {
                    Ok(inner) => inner,
                    Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                        self.leave(path, "something is mounted there");
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                };
                let all = self.directory(&inner, path, depth - 1)?;
                if all && self.act {
                    unlinkat(opened, name, AtFlags::REMOVEDIR)?;
                }
                Ok(all)
            }
            (Known::File | Known::LastFile, false) => {
                if rustix::fs::FileType::from_raw_mode(found.st_mode).is_symlink() {
                    self.leave(path, "it is a link, and twin makes none");
                    return Ok(false);
                }
                let users = self.users.at((found.st_dev, found.st_ino));
                if !users.is_empty() {
                    let why = format!("{} uses it", users.join(", "));
                    self.leave(path, why);
                    return Ok(false);
                }
                if self.act {
                    match unlinkat(opened, name, AtFlags::empty()) {
                        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                        Err(rustix::io::Errno::BUSY) => {
                            self.leave(path, "something is mounted there");
                            return Ok(false);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(true)
            }
            _ => {
                self.leave(path, "twin did not make it");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(path: &Path) -> Known {
        match path.to_str() {
            Some("lab.json") => Known::LastFile,
            Some("host") => Known::Directory,
            Some("host/disk0.qcow2" | "host/serial.log") => Known::File,
            _ => Known::No,
        }
    }

    #[test]
    fn a8_what_is_not_known_stays_and_is_named_and_all_else_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("lab");
        std::fs::create_dir_all(root.join("host")).expect("made");
        std::fs::create_dir_all(root.join("iso")).expect("made");
        for file in [
            "lab.json",
            "host/disk0.qcow2",
            "host/serial.log",
            "host/notes.txt",
        ] {
            std::fs::write(root.join(file), "x").expect("written");
        }
        let outside = directory.path().join("outside");
        std::fs::write(&outside, "precious").expect("written");

        let told = survey(&root, &known, &Users::default()).expect("surveyed");
        assert!(
            root.join("host/disk0.qcow2").exists(),
            "a survey removes nothing"
        );
        let left = remove_known(&root, &known, &Users::default()).expect("removed");
        assert_eq!(told, left);
        let names: Vec<_> = left.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(
            names[0].contains("host/notes.txt: twin did not make it"),
            "{names:?}"
        );
        assert!(names[1].contains("iso"), "{names:?}");
        assert!(!root.join("lab.json").exists() && !root.join("host/disk0.qcow2").exists());

        // A disk that was moved elsewhere and linked to.
        std::os::unix::fs::symlink(&outside, root.join("host/disk0.qcow2")).expect("linked");
        let left = remove_known(&root, &known, &Users::default()).expect("removed");
        assert!(
            left.iter().any(|left| left.why.contains("link")),
            "{left:?}"
        );
        assert_eq!(std::fs::read(&outside).expect("read"), b"precious");
    }

    #[test]
    fn a1_a_file_that_another_uses_stays_whatever_it_is_called() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("lab");
        std::fs::create_dir_all(root.join("host")).expect("made");
        std::fs::write(root.join("host/disk0.qcow2"), "x").expect("written");
        let alias = directory.path().join("alias");
        std::fs::hard_link(root.join("host/disk0.qcow2"), &alias).expect("linked");
        let mut users = Users::default();
        users.note(&alias, "domain mine");
        let left = remove_known(&root, &known, &users).expect("removed");
        assert_eq!(left.len(), 1);
        assert!(left[0].why.contains("domain mine uses it"), "{left:?}");
        assert!(root.join("host/disk0.qcow2").exists());
    }

    #[test]
    fn a_clean_directory_goes_whole_and_a_missing_one_is_no_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("lab");
        std::fs::create_dir_all(root.join("host")).expect("made");
        std::fs::write(root.join("lab.json"), "x").expect("written");
        for _ in 0..2 {
            assert_eq!(
                remove_known(&root, &known, &Users::default()).expect("removed"),
                []
            );
            assert!(!root.exists());
        }
    }
}
