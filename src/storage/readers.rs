//! Who may read what: root alone, the group libvirt, QEMU's user.
//!
//! | what | mode | owner |
//! | --- | --- | --- |
//! | disks, keys, captured file contents, the pool's file | 0600 | root, or the guest's QEMU while it runs, and while qemu-img works on a disk |
//! | journal, logs, lab records, manifests, reports | 0640 | root:libvirt |
//! | kernels, initial RAM file systems, base disks of images | 0640 | root and QEMU's group |
//! | directories on the way to a guest's files | 0711 | root |
//! | directories that members of the group libvirt list | 0751 | root:libvirt |

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::OnceLock;

use nix::unistd::{Group, User};

use super::{make_directory, write};

/// The group whose members may look at labs.
const READERS: &str = "libvirt";

/// QEMU's user, by distribution.
const EMULATORS: [&str; 2] = ["libvirt-qemu", "qemu"];

const SHARED_FILE: u32 = 0o640;
const SHARED_DIRECTORY: u32 = 0o751;

/// QEMU's user passes through directories and lists none.
const PASSAGE: u32 = 0o711;

fn readers() -> Option<u32> {
    static READERS_GID: OnceLock<Option<u32>> = OnceLock::new();
    *READERS_GID.get_or_init(|| Some(Group::from_name(READERS).ok()??.gid.as_raw()))
}

/// QEMU's user and group, where libvirt runs QEMU as a user of its own.
pub fn emulator() -> Option<(u32, u32)> {
    static EMULATOR: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *EMULATOR.get_or_init(|| {
        let users = EMULATORS.iter();
        let mut found = users.filter_map(|name| User::from_name(name).ok().flatten());
        found
            .next()
            .map(|user| (user.uid.as_raw(), user.gid.as_raw()))
    })
}

/// Gives a file or directory to a group; only root can, and for another user it stays that user's alone.
fn give(path: &Path, group: Option<u32>) -> io::Result<()> {
    match group {
        Some(group) if rustix::process::geteuid().is_root() => chown(path, None, Some(group)),
        _ => Ok(()),
    }
}

/// Lets members of the group libvirt read a file, and no other user.
pub fn share(path: &Path) -> io::Result<()> {
    // The group first: another one must not read it for a moment.
    give(path, readers())?;
    std::fs::set_permissions(path, Permissions::from_mode(SHARED_FILE))
}

/// Writes a file that members of the group libvirt may read; it has all of `bytes` or what it had.
pub fn write_shared(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o600)?;
    share(path)
}

/// Makes a directory that QEMU's user can pass through, and that only root can list.
pub fn make_passage(path: &Path) -> io::Result<()> {
    make_directory(path, PASSAGE)
}

/// Whether QEMU's user can pass through a directory.
pub fn is_passage(directory: &Metadata) -> bool {
    directory.permissions().mode() & 0o011 == 0o011
}

/// What to do where QEMU's user may not open a file.
pub const LET_PASS: &str = "let QEMU's user pass through all directories above that file (`chmod o+x`); scripts/host-setup.sh sees to the pool's, and to AppArmor; then run the same command again";

/// Makes a directory that QEMU's user can pass through, or opens one that a kill left closed. Who may list one that can be
/// passed is its owner's to say.
pub fn see_to_passage(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) if is_passage(&found) => Ok(()),
        _ => make_passage(path),
    }
}

/// Makes a directory that QEMU's user can pass through, and that members of the group libvirt can list.
pub fn make_shared(path: &Path) -> io::Result<()> {
    make_directory(path, PASSAGE)?;
    give(path, readers())?;
    std::fs::set_permissions(path, Permissions::from_mode(SHARED_DIRECTORY))
}

/// Lets QEMU read a file, and no other user.
pub fn share_with_emulator(path: &Path) -> io::Result<()> {
    give(path, emulator().map(|(_, group)| group))?;
    std::fs::set_permissions(path, Permissions::from_mode(SHARED_FILE))
}

/// The umask that this program was started with.
static CALLERS_UMASK: OnceLock<u32> = OnceLock::new();

/// Makes files of this process closed to others from the moment that they are made. The first thing that a program does.
pub fn close_to_others() {
    let was = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // A second call finds its own.
    let _ = CALLERS_UMASK.set(was.bits());
}

/// The mode of a file that is made for the user who runs this, where `mode` would do: what their umask leaves of it.
pub fn for_the_caller(mode: u32) -> u32 {
    mode & 0o7777 & !CALLERS_UMASK.get().copied().unwrap_or(0o022)
}
