//! Space on the file system that labs are on. Memory in a file takes none before a guest writes to it, and blocks that it
//! shares with a baseline take more once they are written again; a guest that finds no space for that dies. So free space
//! is compared with what running guests may still come to take.

use std::fs::File;
use std::path::{Path, PathBuf};

use fiemap::FiemapExtentFlags;

use super::Layout;
use crate::storage::Guarded;
use crate::units::Mib;

/// Bytes of a block as `stat` counts them.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// Where libvirt makes memory files, in the pool: its `memory_backing_dir` with what it adds to that.
const RAM: &str = "ram/libvirt/qemu";

/// Free space beside what the memory of running guests may still take of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free for certain.
    pub free: Mib,
    /// What is missing when all memory of all running guests is written; 0 where it fits.
    pub short: Mib,
}

impl Space {
    /// Looks. Where all memory files fit by their length, their blocks are not read.
    pub fn of(layout: &Layout) -> Self {
        let free = free_disk(layout);
        let files = memory_files(&layout.pool().join(RAM));
        let length = |file: &File| file.metadata().map_or(0, |found| found.len());
        let whole: u64 = files.iter().map(length).sum();
        let short = if Mib::from_bytes_ceil(whole) <= free {
            0
        } else {
            // Blocks of its own are written in place.
            let own = |file: &File| unshared_of(file).unwrap_or(0);
            let growth = files
                .iter()
                .map(|file| length(file).saturating_sub(own(file)));
            Mib::from_bytes_ceil(growth.sum()).0.saturating_sub(free.0)
        };
        Self {
            free,
            short: Mib(short),
        }
    }

    /// What to say where it does not suffice, and what to do.
    pub fn warning(self) -> Option<(String, String)> {
        (self.short > Mib(0)).then(|| {
            (
                format!(
                    "the memory of the running guests may come to take {} more than the {} that are free; a guest that finds no space dies",
                    self.short, self.free
                ),
                MORE_SPACE.to_owned(),
            )
        })
    }
}

/// How to get more space.
pub(crate) const MORE_SPACE: &str = "free space: `twin snapshots` shows what baselines take, `twin snapshot NAME --remove` gives it back; or `scripts/host-setup.sh --pool-size SIZE` lets the pool's file grow";

/// Files that hold the memory of running guests, of any lab.
fn memory_files(directory: &Path) -> Vec<File> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.flat_map(|entry| {
        let inside = std::fs::read_dir(entry.path()).into_iter().flatten();
        let name = entry.file_name();
        inside
            .flatten()
            .map(move |file| Path::new(&name).join(file.file_name()))
    });
    // QEMU's user can put anything there: what is no file of its own is not opened.
    files
        .filter_map(|file| Guarded::new(directory, &file).open().ok())
        .collect()
}

/// Space that can be had for certain. A pool in a sparse file has no more than that file can grow by.
pub(crate) fn free_disk(layout: &Layout) -> Mib {
    let pool = layout.pool();
    let existing = pool.ancestors().find(|path| path.exists());
    let Ok(stat) = nix::sys::statvfs::statvfs(existing.unwrap_or(Path::new("/"))) else {
        return Mib(0);
    };
    let bytes = |blocks: u64| blocks * stat.fragment_size();
    let free = bytes(stat.blocks_available());
    let used = bytes(stat.blocks() - stat.blocks_free());
    Mib(behind(layout, used).map_or(free, |behind| behind.min(free)) >> 20)
}

/// What the file behind a mounted pool has left: blocks of its own that the pool does not use, and what its file system
/// can still give it. Nothing where there is no such file.
fn behind(layout: &Layout, used: u64) -> Option<u64> {
    let (image, pool) = (layout.pool_image(), layout.pool());
    let held = allocated(&image).ok()?;
    let device = |path: &Path| nix::sys::stat::stat(path).ok().map(|found| found.st_dev);
    if device(&pool)? == device(pool.parent()?)? {
        return None;
    }
    let stat = nix::sys::statvfs::statvfs(&image).ok()?;
    let free = stat.blocks_available() * stat.fragment_size();
    Some(held.saturating_sub(used) + free)
}

/// Bytes that a file takes on its file system, shared ones included.
pub(crate) fn allocated(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(path)?.blocks() * BLOCK_BYTES)
}

/// Pieces of a file on its disk: place, length, and whether other files have it too.
fn extents(path: &Path) -> Option<Vec<(u64, u64, bool)>> {
    extents_of(&File::open(path).ok()?)
}

fn extents_of(file: &File) -> Option<Vec<(u64, u64, bool)>> {
    fiemap::Fiemap::new(file)
        .map(|extent| {
            let extent = extent.ok()?;
            let shared = extent.fe_flags.contains(FiemapExtentFlags::SHARED);
            Some((extent.fe_physical, extent.fe_length, shared))
        })
        .collect()
}

/// Bytes of these files that no other file has; nothing where the file system does not tell.
pub(crate) fn unshared(paths: &[PathBuf]) -> Option<u64> {
    let mut bytes = 0;
    for path in paths {
        bytes += unshared_of(&File::open(path).ok()?)?;
    }
    Some(bytes)
}

fn unshared_of(file: &File) -> Option<u64> {
    let extents = extents_of(file)?;
    let own = extents.iter().filter(|(_, _, shared)| !shared);
    Some(own.map(|(_, length, _)| length).sum())
}

/// Bytes that these files take together, what they share counted once.
pub(crate) fn together(paths: &[PathBuf]) -> Option<u64> {
    let mut pieces = Vec::new();
    for path in paths {
        pieces.extend(
            extents(path)?
                .into_iter()
                .map(|(at, length, _)| (at, at + length)),
        );
    }
    pieces.sort_unstable();
    let (mut bytes, mut end) = (0, 0);
    for (from, to) in pieces {
        bytes += to.saturating_sub(from.max(end));
        end = end.max(to);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_cannot_all_be_written_is_told_of() {
        let directory = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(directory.path().to_owned());
        let ram = layout.pool().join(RAM).join("1-lab-host");
        std::fs::create_dir_all(&ram).expect("made");
        assert_eq!(Space::of(&layout).short, Mib(0));
        let file = File::create(ram.join("pc.ram")).expect("made");
        let free = free_disk(&layout);
        assert!(free > Mib(0));
        // A hole that is larger than the disk; within what a file may be long.
        file.set_len((free.0 + 1024) << 20).expect("sized");
        let space = Space::of(&layout);
        assert!(
            space.short >= Mib(512) && space.short <= Mib(1536),
            "{space:?}"
        );
        let (what, cure) = space.warning().expect("a warning");
        assert!(what.contains("dies") && cure.contains("--remove"));
    }
}
