//! The file that a guest's memory is in.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid as RustixPid, PidfdFlags, pidfd_open};
use virt::connect::Connect;
use virt::domain::Domain;

use super::domains::ours;
use super::failure::Failure;
use super::monitor::refused;
use crate::hypervisor::Target;
use crate::storage::{self, Guarded};

/// libvirt's settings for QEMU, and where it makes memory files when they do not say.
const QEMU_CONF: &str = "/etc/libvirt/qemu.conf";
const MEMORY_BACKING: &str = "/var/lib/libvirt/qemu/ram";

/// What libvirt takes of a domain's name for its directories (`conf/domain_conf.c`, `VIR_DOMAIN_SHORT_NAME_MAX`).
const SHORT_NAME: usize = 20;

/// The name of the file with all of a domain's memory.
const RAM: &str = "pc.ram";

/// Where libvirt makes memory files, by its settings.
fn memory_backing() -> PathBuf {
    let settings = std::fs::read_to_string(QEMU_CONF).unwrap_or_default();
    let set = settings.lines().rev().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let quoted = (name.trim() == "memory_backing_dir").then_some(value)?;
        quoted.trim().strip_prefix('"')?.split('"').next()
    });
    PathBuf::from(set.unwrap_or(MEMORY_BACKING))
}

/// The file that a running domain's memory is in, where it is in one that the process shares: in the directory that libvirt
/// makes for this start of the domain, and the very file that the process has mapped.
pub(super) fn ram_file(domain: &Domain, target: Target) -> Option<Guarded> {
    let (id, name) = (domain.get_id()?, domain.get_name().ok()?);
    // twin's names are ASCII, of which libvirt takes the beginning.
    let short: String = name.chars().take(SHORT_NAME).collect();
    let backing = memory_backing();
    let below = Path::new("libvirt/qemu").join(format!("{id}-{short}"));
    let pid = super::domains::process(target).ok()?;
    let file = Guarded::new(&backing, &below.join(RAM));
    let inode = mapped(pid, &file.path())?;
    let file = file.with_inode(inode);
    let file = match storage::emulator() {
        Some((user, _)) => file.with_owners([user, 0]),
        None => file,
    };
    // One that is not what it has to be is none: the host is started anew where it is put back.
    if let Err(error) = file.open() {
        tracing::warn!(%error, "a memory file is not used");
        return None;
    }
    Some(file)
}

/// Device and inode of the file that a process has mapped shared under this name.
fn mapped(pid: nix::unistd::Pid, file: &Path) -> Option<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let (range, _) = mappings(&maps, file)
        .into_iter()
        .find(|(_, shared)| *shared)?;
    // A link of the kernel's own to the file itself, whatever its name leads to by now.
    let found = std::fs::metadata(format!("/proc/{pid}/map_files/{range}")).ok()?;
    Some((found.dev(), found.ino()))
}

/// The mappings of a file: the range as the kernel writes it, and whether it is shared.
fn mappings<'m>(maps: &'m str, file: &Path) -> Vec<(&'m str, bool)> {
    let lines = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        // Permissions, offset, device, inode, and the path behind some space.
        let mut parts = rest.splitn(5, ' ');
        let permissions = parts.next()?;
        let path = parts.nth(3)?.trim_start();
        (Path::new(path) == file).then_some((range, permissions.ends_with('s')))
    });
    lines.collect()
}

/// Folios of more bytes than this are split, so that one changed page is not written with its neighbours.
const COARSE: usize = 64 << 10;

const PAGE: usize = 4096;

/// The first page of each piece of a file that a process maps: address and length.
fn pages(maps: &str, file: &Path) -> Vec<(usize, usize)> {
    let hex = |text: &str| usize::from_str_radix(text, 16).ok();
    let mapped = mappings(maps, file).into_iter().filter_map(|(range, _)| {
        let (from, to) = range.split_once('-')?;
        Some((hex(from)?, hex(to)?))
    });
    mapped
        .flat_map(|(from, to)| (from..to).step_by(COARSE).map(|at| (at, PAGE)))
        .collect()
}

pub(super) fn write_back(target: Target, file: &Guarded) -> Result<(), Failure> {
    let failed = |error: std::io::Error| refused("writing memory back", error.to_string());
    file.open()
        .and_then(|memory| memory.sync_data())
        .map_err(failed)?;
    split(target, &file.path());
    Ok(())
}

pub(super) fn split_folios(
    connection: &Connect,
    target: Target,
    file: &Path,
) -> Result<(), Failure> {
    ours(connection, target)?;
    split(target, file);
    Ok(())
}

/// QEMU advises huge pages for all memory, so a file system with large folios reads memory in pieces of up to 2 MiB, and
/// one byte that the guest changes marks the whole piece dirty (Linux `iomap_page_mkwrite`). Clean ones are split here.
/// An old kernel cannot, and a process may have just ended; they stay large then.
fn split(target: Target, file: &Path) {
    let cooled = || -> Option<()> {
        let pid = super::domains::process(target).ok()?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let process = pidfd_open(RustixPid::from_raw(pid.as_raw())?, PidfdFlags::empty()).ok()?;
        super::ffi::cool(process.as_fd(), &pages(&maps, file)).ok()
    };
    if cooled().is_none() {
        tracing::debug!(file = %file.display(), "large folios of memory stay");
    }
}
