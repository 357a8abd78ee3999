//! The header and its extensions.

use std::path::PathBuf;

use super::error::{Qcow2Error, damaged};
use super::source::{ReadAt, number, read_bytes};

const MAGIC: u64 = 0x5146_49fb;

/// Bytes of a version 2 header.
const V2_BYTES: u64 = 72;

/// Bytes of a version 3 header without its optional fields.
const V3_BYTES: u64 = 104;

/// The longest header that is read, extensions included: QEMU keeps them in the first cluster.
const MOST_BYTES: u64 = 64 * 1024;

/// QEMU's own limits.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
const MOST_L1_BYTES: u64 = 32 << 20;
const MOST_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const MOST_NAME_BYTES: u64 = 1023;
const MOST_REFCOUNT_ORDER: u32 = 6;

/// The extension that holds the backing file's format.
const BACKING_FORMAT: u64 = 0xe279_2aca;

/// Features that a reader has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incompatible(pub u64);

impl Incompatible {
    const KNOWN: u64 = 0b1_1011;

    /// Reference counts may be behind.
    pub const fn dirty(self) -> bool {
        self.0 & 1 != 0
    }

    /// QEMU found the file damaged.
    pub const fn corrupt(self) -> bool {
        self.0 & 2 != 0
    }

    /// L2 entries have subclusters.
    pub const fn extended_l2(self) -> bool {
        self.0 & 16 != 0
    }
}

/// A qcow2 file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The file below, as it is written there.
    pub backing: Option<PathBuf>,
    /// The format of the file below, where it is written there.
    pub backing_format: Option<String>,
    /// log2 of a cluster's bytes.
    pub cluster_bits: u32,
    /// Bytes as the guest sees them.
    pub size: u64,
    /// Features that a reader has to know.
    pub incompatible: Incompatible,
    /// log2 of a reference count's bits.
    pub refcount_order: u32,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) snapshot_count: u32,
    pub(super) snapshots_offset: u64,
}

impl Header {
    pub(super) fn read(source: &impl ReadAt) -> Result<Self, Qcow2Error> {
        let length = source.length().map_err(|source| Qcow2Error::Io {
            what: "the file's length".into(),
            source,
        })?;
        if length < V2_BYTES {
            return Err(Qcow2Error::NotQcow2);
        }
        let bytes = read_bytes(source, "the header", 0, length, MOST_BYTES)?;
        if number(&bytes, 0, 4) != MAGIC {
            return Err(Qcow2Error::NotQcow2);
        }
        let word = |at| u32::try_from(number(&bytes, at, 4)).unwrap_or(u32::MAX);
        let version = word(4);
        let (incompatible, refcount_order, header_bytes) = match version {
            2 => (0, 4, V2_BYTES),
            3 => (number(&bytes, 72, 8), word(96), u64::from(word(100))),
            other => {
                return Err(Qcow2Error::Unsupported {
                    what: format!("version {other}"),
                });
            }
        };
        if incompatible & !Incompatible::KNOWN != 0 {
            let what = format!(
                "unknown features ({:#x})",
                incompatible & !Incompatible::KNOWN
            );
            return Err(Qcow2Error::Unsupported { what });
        }
        if version == 3 && !(V3_BYTES..=length).contains(&header_bytes) {
            return Err(damaged(format!("a header of {header_bytes} bytes")));
        }
        if number(&bytes, 32, 4) != 0 {
            return Err(Qcow2Error::Unsupported {
                what: "encryption".into(),
            });
        }
        let header = Self {
            version,
            backing: backing(&bytes)?,
            backing_format: backing_format(&bytes, header_bytes),
            cluster_bits: word(20),
            size: number(&bytes, 24, 8),
            incompatible: Incompatible(incompatible),
            refcount_order,
            l1_entries: word(36),
            l1_offset: number(&bytes, 40, 8),
            refcount_table_offset: number(&bytes, 48, 8),
            refcount_table_clusters: word(56),
            snapshot_count: word(60),
            snapshots_offset: number(&bytes, 64, 8),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Qcow2Error> {
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return Err(damaged(format!(
                "clusters of 2^{} bytes",
                self.cluster_bits
            )));
        }
        if self.refcount_order > MOST_REFCOUNT_ORDER {
            return Err(damaged(format!(
                "reference counts of 2^{} bits",
                self.refcount_order
            )));
        }
        if u64::from(self.l1_entries) * 8 > MOST_L1_BYTES
            || u64::from(self.l1_entries) < self.l1_entries_for(self.size)
        {
            return Err(damaged(format!(
                "{} entries in its L1 table",
                self.l1_entries
            )));
        }
        let table = u64::from(self.refcount_table_clusters) << self.cluster_bits;
        if table > MOST_REFCOUNT_TABLE_BYTES {
            return Err(damaged(format!("a reference count table of {table} bytes")));
        }
        for (what, offset) in [
            ("L1 table", self.l1_offset),
            ("reference count table", self.refcount_table_offset),
            ("snapshot table", self.snapshots_offset),
        ] {
            if offset & (self.cluster_bytes() - 1) != 0 {
                return Err(damaged(format!("its {what} is not at a cluster")));
            }
        }
        Ok(())
    }

    /// Bytes of a cluster.
    pub const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an L2 entry.
    pub(super) const fn l2_entry_bytes(&self) -> u64 {
        if self.incompatible.extended_l2() {
            16
        } else {
            8
        }
    }

    /// Guest bytes that one L2 table maps.
    pub(super) const fn l2_covers(&self) -> u64 {
        (self.cluster_bytes() / self.l2_entry_bytes()) << self.cluster_bits
    }

    /// L1 entries that `size` guest bytes take.
    pub(super) const fn l1_entries_for(&self, size: u64) -> u64 {
        size.div_ceil(self.l2_covers())
    }

    /// What no later write changes, as text: a checksum of it shows a damaged header.
    pub fn fixed(&self) -> String {
        format!(
            "v{} backing {:?} {:?} cluster {} order {} l2 {}",
            self.version,
            self.backing,
            self.backing_format,
            self.cluster_bits,
            self.refcount_order,
            self.l2_entry_bytes()
        )
    }
}

fn backing(bytes: &[u8]) -> Result<Option<PathBuf>, Qcow2Error> {
    use std::os::unix::ffi::OsStringExt;
    let (offset, length) = (number(bytes, 8, 8), number(bytes, 16, 4));
    if offset == 0 {
        return Ok(None);
    }
    let name = usize::try_from(offset).ok().and_then(|from| {
        let length = usize::try_from(length).ok()?;
        bytes.get(from..from.checked_add(length)?)
    });
    match name {
        Some(name) if !name.is_empty() && length <= MOST_NAME_BYTES && !name.contains(&0) => {
            let name = std::ffi::OsString::from_vec(name.to_vec());
            Ok(Some(PathBuf::from(name)))
        }
        _ => Err(damaged("the name of its backing file")),
    }
}

fn backing_format(bytes: &[u8], header_bytes: u64) -> Option<String> {
    let mut at = usize::try_from(header_bytes).ok()?;
    loop {
        let (kind, length) = (number(bytes, at, 4), number(bytes, at.checked_add(4)?, 4));
        let length = usize::try_from(length).ok()?;
        let body = bytes.get(at.checked_add(8)?..at.checked_add(8)?.checked_add(length)?)?;
        match kind {
            0 => return None,
            BACKING_FORMAT => return String::from_utf8(body.to_vec()).ok(),
            _ => {
                at = at
                    .checked_add(8)?
                    .checked_add(length.checked_next_multiple_of(8)?)?;
            }
        }
    }
}
