//! Reads qcow2 files: header, backing chain, snapshot table, and the clusters that a snapshot holds.
//!
//! Only reading, and of files that QEMU may have open: what a snapshot refers to does not change while it exists, so it
//! can be read and hashed while the guest runs. Each number read from a file is checked before it is used; a damaged file
//! gives an error and never a panic, an endless loop or a large allocation. Formats: QEMU's `docs/interop/qcow2.txt`.

mod chain;
mod clusters;
mod header;
mod snapshots;

pub use chain::{ChainLink, MAX_DEPTH, chain, files_below};
pub use clusters::{StateChecksums, VmState};
pub use header::{Header, Incompatible};
pub use snapshots::Snapshot;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Why a file cannot be read as qcow2.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// The file system said so.
    #[error("cannot read {what}: {source}")]
    Io {
        /// What was read.
        what: String,
        /// What was said.
        #[source]
        source: std::io::Error,
    },
    /// It is no qcow2 file.
    #[error("it is no qcow2 file")]
    NotQcow2,
    /// It uses something that this reader does not know.
    #[error("it uses {what}, which twin does not read")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// A number in it cannot be.
    #[error("it is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// The chain leads back to a file that is in it.
    #[error("its backing chain leads back to {path}")]
    Loop {
        /// The file.
        path: PathBuf,
    },
    /// The chain has too many files.
    #[error("its backing chain has more than {MAX_DEPTH} files")]
    TooDeep,
}

pub(super) fn damaged(what: impl Into<String>) -> Qcow2Error {
    Qcow2Error::Damaged { what: what.into() }
}

/// Something that bytes can be read from at any place.
pub trait ReadAt {
    /// Fills `buffer` from `offset`; fails where the source ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()>;

    /// How long the source is, in bytes.
    fn length(&self) -> std::io::Result<u64>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn length(&self) -> std::io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let piece = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buffer.len())?))
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(piece);
        Ok(())
    }

    fn length(&self) -> std::io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// An open qcow2 file.
#[derive(Debug)]
pub struct Qcow2<R> {
    source: R,
    header: Header,
}

impl Qcow2<File> {
    /// Opens a file and reads its header.
    pub fn open(path: &std::path::Path) -> Result<Self, Qcow2Error> {
        let source = File::open(path).map_err(|source| Qcow2Error::Io {
            what: path.display().to_string(),
            source,
        })?;
        Self::read(source)
    }
}

impl<R: ReadAt> Qcow2<R> {
    /// Reads the header.
    pub fn read(source: R) -> Result<Self, Qcow2Error> {
        let header = Header::read(&source)?;
        Ok(Self { source, header })
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the snapshot table.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Qcow2Error> {
        snapshots::read(&self.source, &self.header)
    }

    /// Reads all that the snapshot refers to and returns its checksums. As much is read as was allocated when it was
    /// made.
    pub fn checksums(&self, snapshot: &Snapshot) -> Result<StateChecksums, Qcow2Error> {
        clusters::checksums(&self.source, &self.header, snapshot)
    }

    /// The same for the disk as it is now.
    pub fn active_checksums(&self) -> Result<StateChecksums, Qcow2Error> {
        let header = &self.header;
        let active = Snapshot {
            id: String::new(),
            name: String::new(),
            vm_state_bytes: 0,
            disk_bytes: header.size,
            l1_entries: header.l1_entries,
            l1_offset: header.l1_offset,
        };
        self.checksums(&active)
    }

    /// Reads the saved device state (and memory, where it is in there) and returns its checksum.
    pub fn vm_state(&self, snapshot: &Snapshot) -> Result<VmState, Qcow2Error> {
        clusters::vm_state(&self.source, &self.header, snapshot)
    }

    /// Bytes of saved device state that the active disk shares with a snapshot: all of it right after QEMU has loaded one. It
    /// is counted from where such state begins, to the end of the last cluster that is shared.
    pub fn shared_vm_state(&self) -> Result<u64, Qcow2Error> {
        clusters::shared_vm_state(&self.source, &self.header)
    }

    /// Compares the reference counts with what the snapshots and the active disk refer to; returns what is counted too low.
    /// Such a cluster would be given away while it is still needed. While a guest writes, what it frees may be in between: look
    /// again before believing.
    pub fn undercounted(&self) -> Result<Vec<u64>, Qcow2Error> {
        clusters::undercounted(&self.source, &self.header, &self.snapshots()?)
    }
}

/// Reads `length` bytes at `offset`, at most `most`.
fn read_bytes(
    source: &impl ReadAt,
    what: &str,
    offset: u64,
    length: u64,
    most: u64,
) -> Result<Vec<u8>, Qcow2Error> {
    let length = usize::try_from(length.min(most)).unwrap_or(0);
    let mut bytes = vec![0; length];
    source
        .read_exact_at(&mut bytes, offset)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                damaged(format!("{what} at {offset} lies behind its end"))
            }
            _ => Qcow2Error::Io {
                what: what.to_owned(),
                source,
            },
        })?;
    Ok(bytes)
}

/// Returns the big-endian number at `at`, or 0 behind the end.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes
        .get(at..at.saturating_add(width))
        .unwrap_or_default()
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
