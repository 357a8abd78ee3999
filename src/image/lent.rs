//! A disk that is lent to QEMU's user for as long as qemu-img works on it.
//!
//! QEMU writes a disk's tables, and a QEMU that was broken out of writes what it likes into them: other files' names, sizes
//! that take all memory. So qemu-img opens a guest's own disk as the user that QEMU runs as, within limits, and nothing below
//! it. Only root could reach more by it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::storage;
use crate::tools::{self, Limits};

/// How a qcow2 file begins.
const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Where libvirt keeps whom a file was of before it gave it to a guest that runs.
const REMEMBERED: &str = "trusted.libvirt.security.ref_dac";

/// A disk that is lent; it is given back when this is dropped.
#[derive(Debug)]
pub struct Lent {
    file: File,
    path: PathBuf,
    /// Its name as qemu-img is given it.
    name: String,
    /// Whom it was of, where it is another's now. Where twin is killed meanwhile it stays with QEMU's user, whose it is while
    /// its guest runs.
    was: Option<u32>,
}

impl Lent {
    /// Lends a disk that no process has open; waits while another twin has lent it.
    pub fn new(path: &Path) -> io::Result<Self> {
        let shown = path.to_str();
        let shown = shown.ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
        // Nothing else is opened: not the file below, which QEMU's user may have no right to read.
        let alone = serde_json::json!({
            "driver": "qcow2",
            "backing": null,
            "file": {"driver": "file", "filename": shown},
        });
        // What is no file is not waited for.
        let mut options = File::options();
        options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        let file = options.open(path)?;
        let mut begin = [0; 4];
        let is_disk = file.metadata()?.is_file() && {
            file.read_exact_at(&mut begin, 0)?;
            begin == MAGIC
        };
        if !is_disk {
            return Err(io::Error::other("it is no qcow2 file"));
        }
        file.lock()?;
        let was = match borrower() {
            Some((user, _)) if file.metadata()?.uid() != user => {
                let was = file.metadata()?.uid();
                fchown(&file, Some(user), None)?;
                Some(was)
            }
            _ => None,
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            name: format!("json:{alone}"),
            was,
        })
    }

    /// qemu-img with these arguments and the disk behind them, and `last` at the end.
    pub fn qemu_img(&self, arguments: &[&str], last: Option<&str>) -> Command {
        let (start, words) = tools::limited("qemu-img", Limits::IMAGE, borrower());
        let mut command = Command::new(start);
        let disk = OsString::from(&self.name);
        command.args(words).args(arguments).arg("--").arg(disk);
        command.args(last);
        command
    }

    /// What qemu-img said, with the disk's path in the place of what it was given.
    pub fn said(&self, words: &[u8]) -> String {
        let path = self.path.display().to_string();
        String::from_utf8_lossy(words).replace(&self.name, &path)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(was) = self.was else { return };
        // A guest that was started meanwhile has it now, and libvirt gives it back.
        if rustix::fs::fgetxattr(&self.file, REMEMBERED, &mut [0_u8; 16][..]).is_ok() {
            return;
        }
        if let Err(error) = fchown(&self.file, Some(was), None) {
            tracing::warn!(disk = %self.path.display(), %error, "the disk stays with QEMU's user");
        }
    }
}

/// QEMU's user, where there is one and this is root.
pub(super) fn borrower() -> Option<(u32, u32)> {
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
            (&["snapshot", "-a", "one"], None),
            (&["resize", "-q"], Some("8M")),
            (&["snapshot", "-d", "one"], None),
            (&["check", "-q"], None),
        ] {
            let done = lent.qemu_img(arguments, last).output().expect("it runs");
            let said = lent.said(&done.stderr);
            assert!(done.status.success(), "{arguments:?}: {said}");
        }
        if let Some((user, _)) = borrower() {
            assert_eq!(disk.metadata().expect("there").uid(), user);
            // What the file names in its own tables is not for it to read.
            let other = directory.path().join("other");
            std::fs::copy(&disk, &other).expect("copied");
            let closed = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&other, closed).expect("closed");
            let mut stranger = Lent::new(&other).expect("lent");
            fchown(&stranger.file, stranger.was.take(), None).expect("given back");
            let refused = stranger.qemu_img(&["check", "-q"], None).output();
            let refused = refused.expect("it runs");
            assert!(!refused.status.success(), "it is root's, and was not lent");
            let said = stranger.said(&refused.stderr);
            let path = other.display().to_string();
            assert!(said.contains(&path) && !said.contains("json:"), "{said}");
        }
        drop(lent);
        assert_eq!(disk.metadata().expect("there").uid(), owner);
        // Nothing but a disk is given away.
        let notes = directory.path().join("notes");
        std::fs::write(&notes, "an operator's").expect("written");
        assert!(Lent::new(&notes).is_err());
        assert!(Lent::new(directory.path()).is_err());
    }
}
