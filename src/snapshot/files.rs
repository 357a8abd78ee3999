//! Files of memory: shared, copied and hashed. All of these block; callers run them on threads for that.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek};
use sha2::{Digest, Sha256};

/// Golden files are read by their owner only, and written by nobody.
const GOLDEN_MODE: u32 = 0o400;

/// What is compared, copied and hashed at once.
const BLOCK: usize = 64 * 1024;

/// How one file is made like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Sharing its blocks.
    Reflink,
    /// Copying what is not a hole.
    Copy,
}

/// Makes `golden` from `live`; complete on disk when it returns.
pub(super) fn preserve(live: &Path, golden: &Path, way: Way) -> io::Result<()> {
    let source = File::open(live)?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(GOLDEN_MODE)
        .open(golden)?;
    match way {
        Way::Reflink => Ok(ioctl_ficlone(&target, &source)?),
        Way::Copy => {
            target.set_len(source.metadata()?.len())?;
            copy(&source, &target)
        }
    }
}

/// Makes a file that takes its space, whatever is written later.
pub(super) fn keep_space(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

/// Makes the live file of memory what `golden` is.
pub(super) fn put_back(golden: &Path, live: &Path, way: Way) -> io::Result<()> {
    let source = File::open(golden)?;
    let target = OpenOptions::new().read(true).write(true).open(live)?;
    let (have, want) = (target.metadata()?.len(), source.metadata()?.len());
    if have != want {
        let why = format!("{} has {have} bytes, not {want}", live.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    match way {
        Way::Reflink => Ok(ioctl_ficlone(&target, &source)?),
        Way::Copy => copy(&source, &target),
    }
}

/// Writes what is dirty to the disk.
pub(super) fn write_back(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_data()
}

/// The places of `file` that are not holes.
fn data(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let length = file.metadata()?.len();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < length {
        let from = match seek(file, SeekFrom::Data(at)) {
            Ok(from) => from,
            // No data behind here.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let to = seek(file, SeekFrom::Hole(from))?;
        pieces.push((from, to));
        at = to;
    }
    Ok(pieces)
}

/// Copies data and makes holes where the source has holes or zeros, without a moment in which the target is shorter.
fn copy(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    let hole = |from: u64, to: u64| -> io::Result<()> {
        if to > from {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(target, punch, from, to - from)?;
        }
        Ok(())
    };
    let mut block = vec![0; BLOCK];
    // Where the target has to have zeros from.
    let mut blank_from = 0;
    for (from, to) in data(source)? {
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at).map_or(BLOCK, |left| left.min(BLOCK));
            let piece = &mut block[..length];
            source.read_exact_at(piece, at)?;
            if piece.iter().any(|byte| *byte != 0) {
                hole(blank_from, at)?;
                target.write_all_at(piece, at)?;
                blank_from = at + length as u64;
            }
            at += length as u64;
        }
    }
    hole(blank_from, length)
}

/// SHA-256 of a file's bytes, zeros left out: each block that has others is hashed with its place. A hole and zeros are
/// the same, as they are to a guest.
pub(super) fn checksum(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut digest = Sha256::new();
    digest.update(length.to_be_bytes());
    let mut block = vec![0; BLOCK];
    let mut next = 0;
    for (from, to) in data(&file)? {
        // Whole blocks, so that the same content has the same sum whatever its extents are.
        let mut at = (from - from % BLOCK as u64).max(next);
        while at < to {
            let size = usize::try_from(length - at).map_or(BLOCK, |left| left.min(BLOCK));
            let piece = &mut block[..size];
            file.read_exact_at(piece, at)?;
            if piece.iter().any(|byte| *byte != 0) {
                digest.update(at.to_be_bytes());
                digest.update(&*piece);
            }
            at += size as u64;
        }
        next = at;
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Whether files of `from` can be shared into `to`.
pub(super) fn can_reflink(from: &Path, to: &Path) -> bool {
    let probe = || -> io::Result<()> {
        let source = tempfile::NamedTempFile::new_in(from)?;
        source.as_file().write_all_at(&[1; 4096], 0)?;
        let target = tempfile::NamedTempFile::new_in(to)?;
        Ok(ioctl_ficlone(target.as_file(), source.as_file())?)
    };
    probe().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path, name: &str, pieces: &[(u64, u8)]) -> std::path::PathBuf {
        let path = directory.join(name);
        let file = File::create(&path).expect("made");
        file.set_len(1 << 20).expect("sized");
        for (at, byte) in pieces {
            file.write_all_at(&[*byte; 5000], *at).expect("written");
        }
        path
    }

    #[test]
    fn a_copy_has_the_same_bytes_also_where_the_source_has_holes() {
        let directory = tempfile::tempdir().expect("a directory");
        let golden = file(directory.path(), "golden", &[(70_000, 7), (900_000, 9)]);
        let live = file(
            directory.path(),
            "live",
            &[(0, 1), (300_000, 2), (900_100, 3)],
        );
        put_back(&golden, &live, Way::Copy).expect("copied");
        assert_eq!(
            std::fs::read(&golden).expect("read"),
            std::fs::read(&live).expect("read")
        );
        assert_eq!(
            checksum(&golden).expect("hashed"),
            checksum(&live).expect("hashed")
        );
    }

    #[test]
    fn any_flipped_bit_changes_the_checksum_also_in_a_hole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = file(directory.path(), "f", &[(70_000, 7)]);
        let before = checksum(&path).expect("hashed");
        for at in [0, 69_999, 70_000, 74_999, 75_000, (1 << 20) - 1] {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .expect("opened");
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("read");
            file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
            assert_ne!(checksum(&path).expect("hashed"), before, "{at}");
            file.write_all_at(&byte, at).expect("written");
        }
        assert_eq!(checksum(&path).expect("hashed"), before);
    }

    #[test]
    fn a_file_of_another_size_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let golden = file(directory.path(), "golden", &[]);
        let live = directory.path().join("live");
        std::fs::write(&live, "short").expect("written");
        assert!(put_back(&golden, &live, Way::Copy).is_err());
        assert_eq!(std::fs::read(&live).expect("read"), b"short");
    }
}
