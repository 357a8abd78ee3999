//! A tree that is made below a directory, as a guest will see it: links in it lead to places in it, and nowhere else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, symlinkat};

use super::beneath::open_directory;

/// A tree below a directory.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// Whether a path is one that a tree can have: from its root, each part a name.
pub fn is_tree_path(path: &str) -> bool {
    let path = Path::new(path);
    let mut named = false;
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(_) => named = true,
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => return false,
        }
    }
    named && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn outside(path: &Path) -> io::Error {
    let why = format!("{} leads out of the tree", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl Tree {
    /// Opens the tree below a directory that is there.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: open_directory(root)?,
        })
    }

    /// Opens what a path leads to in the tree; absolute links and `..` in it stay in the tree.
    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        Ok(openat2(
            self.root.as_fd(),
            path,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Opens a directory, making those on the way that are missing.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let mut opened = self.resolve(Path::new("/"), flags)?;
        let mut at = Path::new("/").to_owned();
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            at.push(name);
            opened = match self.resolve(&at, flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&opened, name, Mode::from_raw_mode(0o755))?;
                    self.resolve(&at, flags)?
                }
                other => other?,
            };
        }
        Ok(opened)
    }

    fn parent_of<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        if !path.to_str().is_some_and(is_tree_path) {
            return Err(outside(path));
        }
        let name = path.file_name().ok_or_else(|| outside(path))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory(parent)?, name))
    }

    /// Writes a file, making directories on the way. A link in its place is not followed.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
        File::from(file).write_all(bytes)
    }

    /// Makes a link, making directories on the way. What it says is for the guest, and not looked at.
    pub fn link(&self, path: &Path, target: &str) -> io::Result<()> {
        let (parent, name) = self.parent_of(path)?;
        Ok(symlinkat(target, &parent, name)?)
    }

    /// Opens a regular file of the tree to read it; nothing where there is none.
    pub fn read(&self, path: &Path) -> io::Result<Option<File>> {
        if !path.to_str().is_some_and(is_tree_path) {
            return Err(outside(path));
        }
        let opened = match self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(opened) => File::from(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(opened.metadata()?.is_file().then_some(opened))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn b6_nothing_in_a_tree_leads_out_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, victim) = (
            directory.path().join("tree"),
            directory.path().join("victim"),
        );
        std::fs::create_dir(&root).expect("made");
        std::fs::write(&victim, "precious").expect("written");
        let tree = Tree::open(&root).expect("opened");
        for path in ["../victim", "a/../../victim", "..", "/", ""] {
            assert!(tree.write(Path::new(path), b"x").is_err(), "{path}");
            assert!(tree.link(Path::new(path), "x").is_err(), "{path}");
            assert!(tree.read(Path::new(path)).is_err(), "{path}");
        }
        // A link out of the tree is one into it: that is how the guest will see it.
        tree.link(Path::new("/out"), "/").expect("linked");
        tree.link(Path::new("/up"), "../..").expect("linked");
        tree.link(Path::new("/file"), &victim.display().to_string())
            .expect("linked");
        tree.write(Path::new("/out/etc/x"), b"inside")
            .expect("written");
        tree.write(Path::new("/up/etc/y"), b"inside")
            .expect("written");
        assert_eq!(std::fs::read(root.join("etc/x")).expect("read"), b"inside");
        assert_eq!(std::fs::read(root.join("etc/y")).expect("read"), b"inside");
        assert!(tree.write(Path::new("/file"), b"x").is_err());
        assert!(tree.read(Path::new("/file")).expect("looked").is_none());
        assert_eq!(std::fs::read(&victim).expect("read"), b"precious");
        let mut text = String::new();
        let opened = tree
            .read(Path::new("/out/etc/x"))
            .expect("read")
            .expect("there");
        { opened }.read_to_string(&mut text).expect("read");
        assert_eq!(text, "inside");
    }
}
