//! Files of memory: shared, copied and hashed. All of these block; callers run them on threads for that.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use fiemap::{Fiemap, FiemapExtentFlags, FiemapFlags};
use rustix::fs::{
    Advice, FallocateFlags, SeekFrom, copy_file_range, fadvise, fallocate, ioctl_ficlone, seek,
};
use sha2::{Digest, Sha256};

/// Only their owner reads golden files, and no user writes them.
const GOLDEN_MODE: u32 = 0o400;

/// What is compared, copied and hashed at once.
const BLOCK: usize = 64 * 1024;

const PAGE: u64 = 4096;
const PAGE_SIZE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// Places that differ are shared together where less than this is between them.
const NEAR: u64 = 64 * 1024;

/// Up to so many bytes that differ are written over. To share costs the file system the same for any place, however small, and
/// again for the first change to it; what is shared leaves the page cache, and is read again. What is written over has blocks
/// of its own from then on, and those cost nothing more: guests change the same few pages all the time. More than this is
/// shared, so that it takes no space.
pub(super) const FEW: u64 = 8 << 20;

/// How one file is made like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Sharing its blocks.
    Reflink,
    /// Copying what is not a hole.
    Copy,
}

/// Makes `golden` from `live`; complete on disk when it returns.
pub(super) fn preserve(source: &File, golden: &Path, way: Way) -> io::Result<()> {
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(GOLDEN_MODE)
        .open(golden)?;
    let length = source.metadata()?.len();
    match way {
        Way::Reflink => ioctl_ficlone(&target, source)?,
        Way::Copy => {
            target.set_len(length)?;
            copy(source, &target)?;
        }
    }
    seed(source, 0, length)
}

/// Sees to it that each piece of a huge page's size has a page in the page cache. QEMU advises huge pages for all memory;
/// where nothing of such a piece is there the kernel reads it as one folio, and writes it as one when the guest changes a
/// byte. Over a page that is there it lays none (Linux `page_cache_ra_order`).
fn seed(file: &File, from: u64, to: u64) -> io::Result<()> {
    for at in (from - from % HUGE_PAGE as u64..to).step_by(HUGE_PAGE) {
        fadvise(file, at, NonZeroU64::new(PAGE), Advice::WillNeed)?;
    }
    Ok(())
}

/// Makes a file that takes its space, whatever is written later.
pub(super) fn keep_space(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

/// Makes the live file of memory what `golden` is. Up to `few` bytes that differ are written over where blocks could be shared.
pub(super) fn put_back(golden: &Path, target: &File, way: Way, few: u64) -> io::Result<()> {
    let source = File::open(golden)?;
    let (have, want) = (target.metadata()?.len(), source.metadata()?.len());
    if have != want {
        let why = format!("it has {have} bytes, not {want}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    match way {
        Way::Reflink => share(&source, target, want, few),
        Way::Copy => copy(&source, target),
    }
}

/// Makes `target` what `source` is: writes over what differs where that is little, and shares blocks otherwise. Where both
/// have the same blocks already nothing is done: what is shared leaves the page cache, and a process that maps it reads it
/// again, in larger folios than it had.
fn share(source: &File, target: &File, length: u64, few: u64) -> io::Result<()> {
    let (Ok(want), Ok(have)) = (pieces(source), pieces(target)) else {
        return Ok(ioctl_ficlone(target, source)?);
    };
    let places = differing(&want, &have, length);
    let differs: u64 = places.iter().map(|(from, to)| to - from).sum();
    let mut all = places.iter();
    if differs <= few && all.all(|(from, to)| write_over(source, target, *from, *to).is_ok()) {
        return Ok(());
    }
    // Too much, or no space for blocks of its own.
    for (from, to) in joined(places) {
        let (mut read_at, mut write_at) = (from, from);
        while read_at < to {
            let left = usize::try_from(to - read_at).unwrap_or(usize::MAX);
            // The kernel shares blocks where it can, and copies otherwise.
            let done = copy_file_range(
                source,
                Some(&mut read_at),
                target,
                Some(&mut write_at),
                left,
            )?;
            if done == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        seed(target, from, to)?;
    }
    Ok(())
}

/// Writes the pages of a place in `source` that are others in `target` over those.
fn write_over(source: &File, target: &File, from: u64, to: u64) -> io::Result<()> {
    let (mut wanted, mut there) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).map_or(BLOCK, |left| left.min(BLOCK));
        let (wanted, there) = (&mut wanted[..length], &mut there[..length]);
        source.read_exact_at(wanted, at)?;
        target.read_exact_at(there, at)?;
        let pages = wanted.chunks(PAGE_SIZE).zip(there.chunks(PAGE_SIZE));
        for (place, (wanted, there)) in (at..).step_by(PAGE_SIZE).zip(pages) {
            if wanted != there {
                target.write_all_at(wanted, place)?;
            }
        }
        at += length as u64;
    }
    Ok(())
}

/// A piece of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    from: u64,
    to: u64,
    /// Where it is on the disk, and whether it was written; nothing where that does not tell what is in it.
    place: Option<(u64, bool)>,
}

impl Piece {
    /// Where a byte of it is on the disk.
    fn place_of(&self, at: u64) -> Option<(u64, bool)> {
        let (place, written) = self.place?;
        Some((place + (at - self.from), written))
    }
}

/// The pieces of a file in their order, all that was written being on the disk.
fn pieces(file: &File) -> io::Result<Vec<Piece>> {
    let unsure = FiemapExtentFlags::UNKNOWN
        | FiemapExtentFlags::DELALLOC
        | FiemapExtentFlags::ENCODED
        | FiemapExtentFlags::DATA_ENCRYPTED
        | FiemapExtentFlags::NOT_ALIGNED
        | FiemapExtentFlags::DATA_INLINE
        | FiemapExtentFlags::DATA_TAIL
        | FiemapExtentFlags::MERGED;
    Fiemap::with_flags(file, FiemapFlags::SYNC)
        .map(|extent| {
            let extent = extent?;
            let flags = extent.fe_flags;
            let written = !flags.contains(FiemapExtentFlags::UNWRITTEN);
            Ok(Piece {
                from: extent.fe_logical,
                to: extent.fe_logical + extent.fe_length,
                place: (!flags.intersects(unsure)).then_some((extent.fe_physical, written)),
            })
        })
        .collect()
}

/// Where two files do not have the same blocks: places in bytes.
fn differing(one: &[Piece], other: &[Piece], length: u64) -> Vec<(u64, u64)> {
    let mut places: Vec<(u64, u64)> = Vec::new();
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let mut at = 0;
    while at < length {
        // What covers this place, and how far that goes.
        let look = |pieces: &mut std::iter::Peekable<std::slice::Iter<'_, Piece>>| {
            while pieces.next_if(|piece| piece.to <= at).is_some() {}
            match pieces.peek() {
                Some(piece) if piece.from <= at => (Some(piece.place_of(at)), piece.to),
                Some(piece) => (None, piece.from),
                None => (None, length),
            }
        };
        let ((here, until), (there, other_until)) = (look(&mut one), look(&mut other));
        let to = until.min(other_until).min(length);
        let same = match (here, there) {
            (None, None) => true,
            (Some(Some(here)), Some(Some(there))) => here == there,
            _ => false,
        };
        match places.last_mut() {
            _ if same => {}
            Some((_, end)) if at == *end => *end = to,
            _ => places.push((at, to)),
        }
        at = to;
    }
    places
}

/// Places with those that are near to each other as one.
fn joined(places: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for (from, to) in places {
        match all.last_mut() {
            Some((_, end)) if from - *end < NEAR => *end = to,
            _ => all.push((from, to)),
        }
    }
    all
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

    fn writable(path: &Path) -> File {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.expect("opened")
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
        put_back(&golden, &writable(&live), Way::Copy, 0).expect("copied");
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
    fn what_differs_a_little_is_written_over_also_where_the_source_has_holes() {
        let directory = tempfile::tempdir().expect("a directory");
        let golden = file(directory.path(), "golden", &[(70_000, 7), (900_000, 9)]);
        let live = file(
            directory.path(),
            "live",
            &[(0, 1), (69_000, 7), (300_000, 2), (900_100, 9)],
        );
        let target = OpenOptions::new().read(true).write(true).open(&live);
        let (source, target) = (
            File::open(&golden).expect("opened"),
            target.expect("opened"),
        );
        write_over(&source, &target, 0, 1 << 20).expect("written over");
        let wanted = std::fs::read(&golden).expect("read");
        assert!(wanted.contains(&7) && wanted.contains(&9));
        assert_eq!(wanted, std::fs::read(&live).expect("read"));
        // What is the same is left alone: a file that is open for reading only would refuse.
        write_over(&target, &source, 0, 1 << 20).expect("nothing to write");
        std::fs::write(&live, vec![1; 1 << 20]).expect("written");
        assert!(write_over(&target, &source, 0, 1 << 20).is_err());
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

    fn piece(from: u64, to: u64, place: u64) -> Piece {
        Piece {
            from,
            to,
            place: Some((place, true)),
        }
    }

    #[test]
    fn only_what_is_not_the_same_blocks_differs() {
        const MIB: u64 = 1 << 20;
        let whole = [piece(0, 8 * MIB, 100 * MIB)];
        assert_eq!(differing(&whole, &whole, 8 * MIB), []);
        // The same blocks in more pieces.
        let cut = [
            piece(0, 3 * MIB, 100 * MIB),
            piece(3 * MIB, 8 * MIB, 103 * MIB),
        ];
        assert_eq!(differing(&whole, &cut, 8 * MIB), []);
        // One block elsewhere; one hole; one that was not written.
        let page = 4096;
        let moved = [
            piece(0, MIB, 100 * MIB),
            piece(MIB, MIB + page, 50 * MIB),
            piece(MIB + page, 3 * MIB, 101 * MIB + page),
            piece(4 * MIB, 5 * MIB, 104 * MIB),
            Piece {
                place: Some((105 * MIB, false)),
                ..piece(5 * MIB, 6 * MIB, 0)
            },
            piece(6 * MIB, 8 * MIB, 106 * MIB),
        ];
        let places = [(MIB, MIB + page), (3 * MIB, 4 * MIB), (5 * MIB, 6 * MIB)];
        assert_eq!(differing(&whole, &moved, 8 * MIB), places);
        assert_eq!(differing(&moved, &whole, 8 * MIB), places);
        // Holes are the same as holes, up to the end.
        assert_eq!(differing(&[], &[], 8 * MIB), []);
        assert_eq!(differing(&[], &whole, 9 * MIB), [(0, 8 * MIB)]);
    }

    #[test]
    fn what_is_near_is_shared_as_one_and_what_is_unsure_always_differs() {
        let whole = [piece(0, 1 << 20, 1 << 30)];
        let scattered = [
            piece(0, 4096, 0),
            piece(4096, 8192, (1 << 30) + 4096),
            piece(8192, 12288, 0),
            piece(12288, 900_000, (1 << 30) + 12288),
            piece(900_000, 1 << 20, 0),
        ];
        let places = differing(&scattered, &whole, 1 << 20);
        assert_eq!(places, [(0, 4096), (8192, 12288), (900_000, 1 << 20)]);
        assert_eq!(joined(places), [(0, 12288), (900_000, 1 << 20)]);
        let unsure = [Piece {
            place: None,
            ..whole[0]
        }];
        assert_eq!(differing(&unsure, &unsure, 1 << 20), [(0, 1 << 20)]);
    }

    #[test]
    fn a_file_of_another_size_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let golden = file(directory.path(), "golden", &[]);
        let live = directory.path().join("live");
        std::fs::write(&live, "short").expect("written");
        assert!(put_back(&golden, &writable(&live), Way::Copy, 0).is_err());
        assert_eq!(std::fs::read(&live).expect("read"), b"short");
    }
}
