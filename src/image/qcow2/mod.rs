//! Reads qcow2 files: header, backing chain, snapshot table, and the clusters that a snapshot holds.
//!
//! Only reading, and of files that QEMU may have open: what a snapshot refers to does not change while it exists, so it
//! can be read and hashed while the guest runs. Each number read from a file is checked before it is used; a damaged file
//! gives an error and never a panic, an endless loop or a large allocation. Formats: QEMU's `docs/interop/qcow2.txt`.

mod chain;
mod clusters;
mod error;
mod header;
mod snapshots;
mod source;

pub use chain::{ChainLink, chain, files_below};
pub use clusters::{StateChecksums, VmState};
pub use error::{MAX_DEPTH, Qcow2Error};
pub use header::{Header, Incompatible};
pub use snapshots::Snapshot;
pub use source::ReadAt;

use std::fs::File;

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
