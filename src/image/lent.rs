//! A disk that is lent to QEMU's user for as long as qemu-img works on it.
//!
//! QEMU writes a disk's tables, and a QEMU that was broken out of writes what it likes into them: other files' names, sizes
//! that take all memory. So qemu-img opens a guest's own disk as the user that QEMU runs as, within limits, and nothing below
//! it. Only root could reach more by it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::storage;
use crate::tools::{self, Limits};

/// A disk that is lent; it is given back when this is dropped.
#[derive(Debug)]
pub struct Lent {
    file: File,
    path: PathBuf,
    /// Whom it was of, where it is another's now. What is killed in between leaves it with QEMU's user, whose it is while its
    /// guest runs.
    was: Option<(u32, u32)>,
}

impl Lent {
    /// Lends a disk that no process has open.
    pub fn new(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let was = match borrower() {
            Some((user, group)) => {
                fchown(&file, Some(user), Some(group))?;
                Some((found.uid(), found.gid()))
            }
            None => None,
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            was,
        })
    }

    /// qemu-img with these arguments and the disk behind them, and `last` at the end. It stands in a process group of its own:
    /// Ctrl-C at a terminal is for twin, which may be in the middle of an undo.
    pub fn qemu_img(&self, arguments: &[&str], last: Option<&str>) -> io::Result<Command> {
        use std::os::unix::process::CommandExt;
        let path = self.path.to_str();
        let path = path.ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
        // Nothing else is opened: not the file below, which QEMU's user may have no right to read.
        let alone = serde_json::json!({
            "driver": "qcow2",
            "backing": null,
            "file": {"driver": "file", "filename": path},
        });
        let (start, words) = tools::limited("qemu-img", Limits::IMAGE, borrower());
        let mut command = Command::new(start);
        let disk = OsString::from(format!("json:{alone}"));
        command.args(words).args(arguments).arg("--").arg(disk);
        command.args(last).process_group(0);
        Ok(command)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some((user, group)) = self.was
            && let Err(error) = fchown(&self.file, Some(user), Some(group))
        {
            tracing::warn!(disk = %self.path.display(), %error, "the disk stays with QEMU's user");
        }
    }
}

/// QEMU's user, where there is one and this is root.
fn borrower() -> Option<(u32, u32)> {
    storage::emulator().filter(|_| rustix::process::geteuid().is_root())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn b5_a_disk_is_worked_on_without_root_and_without_what_is_below_it() {
        // A directory that QEMU's user passes through, as a host's is.
        let directory = tempfile::tempdir().expect("a directory");
        let mode = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(directory.path(), mode).expect("opened");
        let (base, disk) = (directory.path().join("base"), directory.path().join("disk"));
        let make = |arguments: &[&str], file: &Path| {
            let mut make = Command::new("qemu-img");
            make.args(["create", "-q", "-f", "qcow2"]).args(arguments);
            let made = make.arg(file).arg("4M").status();
            assert!(made.expect("qemu-img runs").success());
        };
        make(&[], &base);
        let below = base.display().to_string();
        make(&["-b", &below, "-F", "qcow2"], &disk);
        for file in [&base, &disk] {
            let closed = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(file, closed).expect("closed");
        }
        let owner = disk.metadata().expect("there").uid();
        let lent = Lent::new(&disk).expect("lent");
        for (arguments, last) in [
            (&["snapshot", "-c", "one"][..], None),
            (&["resize", "-q"], Some("8M")),
            (&["snapshot", "-d", "one"], None),
            (&["check", "-q"], None),
        ] {
            let done = lent.qemu_img(arguments, last).expect("made").output();
            let done = done.expect("it runs");
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{arguments:?}: {said}");
        }
        if let Some((user, _)) = borrower() {
            assert_eq!(disk.metadata().expect("there").uid(), user);
            // What the file names in its own tables is not for it to read.
            let other = directory.path().join("other");
            std::fs::copy(&disk, &other).expect("copied");
            let closed = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&other, closed).expect("closed");
            let stranger = Lent {
                file: File::open(&other).expect("opened"),
                path: other,
                was: None,
            };
            let refused = stranger.qemu_img(&["check", "-q"], None).expect("made");
            let refused = { refused }.output().expect("it runs");
            assert!(!refused.status.success(), "it is root's, and was not lent");
        }
        drop(lent);
        assert_eq!(disk.metadata().expect("there").uid(), owner);
    }
}
