//! What a snapshot refers to.
//!
//! A snapshot has an L1 table of its own; the tables and clusters below it are shared with the active disk and with other
//! snapshots. Only the "copied" bit of their entries ever changes, so it is left out of checksums.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::error::{Qcow2Error, damaged};
use super::header::Header;
use super::snapshots::Snapshot;
use super::source::{ReadAt, number, read_bytes};

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const COPIED: u64 = 1 << 63;
const ZERO: u64 = 1;

/// No compressed cluster is smaller.
const SMALLEST_COMPRESSED: u64 = 16;

/// Bytes of a sector, in which compressed clusters are measured.
const SECTOR: u64 = 512;

/// Checksums of all that a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChecksums {
    /// SHA-256 of the disk as it was: where each allocated cluster is for the guest, and what is in it.
    pub disk: String,
    /// Bytes of allocated clusters.
    pub disk_bytes: u64,
    /// The saved state.
    pub vm_state: VmState,
}

/// The saved device state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmState {
    /// SHA-256 of it; of nothing where there is none.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// An entry of an L2 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Where the cluster is for the guest.
    guest: u64,
    /// The entry without its "copied" bit.
    value: u64,
    /// Whether nothing else refers to its cluster: its "copied" bit, and that of its table.
    copied: bool,
    /// Which subclusters are allocated and which read as zeros; 0 without extended L2.
    bitmap: u64,
}

impl Entry {
    /// Where its bytes are in the file, and how many.
    fn bytes(self, header: &Header) -> Option<(u64, u64)> {
        if self.value & COMPRESSED != 0 {
            let offset_bits = 62 - (header.cluster_bits - 8);
            let offset = self.value & ((1 << offset_bits) - 1);
            let sectors = (self.value & (COMPRESSED - 1)) >> offset_bits;
            // The last sector is counted from the one in which the cluster starts.
            return Some((offset, (sectors + 1) * SECTOR - offset % SECTOR));
        }
        match self.value & OFFSET {
            0 => None,
            offset => Some((offset, header.cluster_bytes())),
        }
    }
}

/// Reads a table of 8 byte numbers.
fn table(
    source: &impl ReadAt,
    what: &str,
    offset: u64,
    entries: u64,
) -> Result<Vec<u64>, Qcow2Error> {
    let bytes = read_bytes(source, what, offset, entries * 8, u64::MAX)?;
    Ok(bytes
        .chunks_exact(8)
        .map(|piece| number(piece, 0, 8))
        .collect())
}

/// Checks that a table or cluster can be where an entry says.
fn placed(header: &Header, what: &str, entry: u64) -> Result<u64, Qcow2Error> {
    let offset = entry & OFFSET;
    if offset & (header.cluster_bytes() - 1) != 0 {
        return Err(damaged(format!("{what} is not at a cluster")));
    }
    Ok(offset)
}

/// Visits the L2 entries of an L1 table that say something, in the guest's order; `table` gets each L2 table's place.
fn walk(
    source: &impl ReadAt,
    header: &Header,
    l1: &[u64],
    mut on_table: impl FnMut(u64),
    mut on_entry: impl FnMut(Entry) -> Result<(), Qcow2Error>,
) -> Result<(), Qcow2Error> {
    let width = header.l2_entry_bytes();
    // Tables and clusters of one L1 table are all different ones: more than fit into the file are damage, and reading them
    // all would never end.
    let file = source.length().map_err(|source| Qcow2Error::Io {
        what: "the file's length".into(),
        source,
    })?;
    let (mut tables, mut clusters) = (
        file.div_ceil(header.cluster_bytes()),
        file.div_ceil(SMALLEST_COMPRESSED),
    );
    let taken = |left: &mut u64| -> Result<(), Qcow2Error> {
        *left = left
            .checked_sub(1)
            .ok_or_else(|| damaged("it refers to more clusters than it has"))?;
        Ok(())
    };
    for (index, &l1_entry) in (0u64..).zip(l1) {
        let offset = placed(header, "an L2 table", l1_entry)?;
        if offset == 0 {
            continue;
        }
        taken(&mut tables)?;
        on_table(offset);
        let length = header.cluster_bytes();
        let bytes = read_bytes(source, "an L2 table", offset, length, length)?;
        let entries = bytes.chunks_exact(usize::try_from(width).unwrap_or(8));
        for (slot, piece) in (0u64..).zip(entries) {
            let value = number(piece, 0, 8);
            let entry = Entry {
                guest: index
                    .wrapping_mul(header.l2_covers())
                    .wrapping_add(slot << header.cluster_bits),
                value: value & !COPIED,
                copied: l1_entry & value & COPIED != 0,
                bitmap: number(piece, 8, 8),
            };
            if entry.value & COMPRESSED == 0 {
                placed(header, "a cluster", entry.value)?;
            }
            if entry.value != 0 || entry.bitmap != 0 {
                if entry.value & !ZERO != 0 {
                    taken(&mut clusters)?;
                }
                on_entry(entry)?;
            }
        }
    }
    Ok(())
}

fn snapshot_l1(
    source: &impl ReadAt,
    header: &Header,
    snapshot: &Snapshot,
) -> Result<Vec<u64>, Qcow2Error> {
    let offset = placed(header, "a snapshot's L1 table", snapshot.l1_offset)?;
    let entries = u64::from(snapshot.l1_entries);
    if entries < header.l1_entries_for(snapshot.disk_bytes) {
        return Err(damaged("a snapshot's L1 table is too short for its disk"));
    }
    table(source, "a snapshot's L1 table", offset, entries)
}

fn hex(digest: Sha256) -> String {
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Hashes one entry and what it points to.
fn feed(
    source: &impl ReadAt,
    header: &Header,
    digest: &mut Sha256,
    entry: Entry,
) -> Result<u64, Qcow2Error> {
    let zero = entry.value & ZERO != 0 && entry.value & COMPRESSED == 0;
    digest.update(entry.guest.to_be_bytes());
    digest.update([u8::from(zero), u8::from(entry.value & COMPRESSED != 0)]);
    digest.update(entry.bitmap.to_be_bytes());
    let Some((offset, length)) = entry.bytes(header) else {
        return Ok(0);
    };
    if zero {
        // Preallocated, and reads as zeros: QEMU never reads the cluster itself.
        return Ok(length);
    }
    // A compressed cluster's last sector may lie behind the file's end.
    let end = source.length().map_err(|source| Qcow2Error::Io {
        what: "the file's length".into(),
        source,
    })?;
    let length = if entry.value & COMPRESSED == 0 {
        length
    } else {
        length.min(end.saturating_sub(offset))
    };
    let bytes = read_bytes(source, "a cluster", offset, length, length)?;
    digest.update(bytes);
    Ok(length)
}

pub(super) fn checksums(
    source: &impl ReadAt,
    header: &Header,
    snapshot: &Snapshot,
) -> Result<StateChecksums, Qcow2Error> {
    let l1 = snapshot_l1(source, header, snapshot)?;
    let disk_entries = usize::try_from(header.l1_entries_for(snapshot.disk_bytes)).unwrap_or(0);
    let mut digest = Sha256::new();
    digest.update(header.fixed());
    digest.update(snapshot.disk_bytes.to_be_bytes());
    let mut disk_bytes = 0;
    let disk = l1.get(..disk_entries).unwrap_or_default();
    walk(
        source,
        header,
        disk,
        |_| {},
        |entry| {
            disk_bytes += feed(source, header, &mut digest, entry)?;
            Ok(())
        },
    )?;
    Ok(StateChecksums {
        disk: hex(digest),
        disk_bytes,
        vm_state: vm_state(source, header, snapshot)?,
    })
}

/// Visits what an L1 table has of saved device state, which lies behind the disk of so many bytes.
fn walk_state(
    source: &impl ReadAt,
    header: &Header,
    (l1, disk_bytes): (&[u64], u64),
    on_entry: impl FnMut(Entry) -> Result<(), Qcow2Error>,
) -> Result<(), Qcow2Error> {
    let first = usize::try_from(header.l1_entries_for(disk_bytes)).unwrap_or(usize::MAX);
    let state = l1.get(first..).unwrap_or_default();
    walk(source, header, state, |_| {}, on_entry)
}

pub(super) fn vm_state(
    source: &impl ReadAt,
    header: &Header,
    snapshot: &Snapshot,
) -> Result<VmState, Qcow2Error> {
    let l1 = snapshot_l1(source, header, snapshot)?;
    let mut digest = Sha256::new();
    let wanted = snapshot.vm_state_bytes;
    walk_state(source, header, (&l1, snapshot.disk_bytes), |entry| {
        if entry.guest < wanted {
            feed(source, header, &mut digest, entry)?;
        }
        Ok(())
    })?;
    digest.update(wanted.to_be_bytes());
    Ok(VmState {
        sha256: hex(digest),
        bytes: wanted,
    })
}

/// From where saved device state begins on the active disk to the end of its last cluster that something else refers to as well,
/// in bytes.
pub(super) fn shared_vm_state(source: &impl ReadAt, header: &Header) -> Result<u64, Qcow2Error> {
    let entries = u64::from(header.l1_entries);
    let l1 = table(source, "the L1 table", header.l1_offset, entries)?;
    let mut end = 0;
    walk_state(source, header, (&l1, header.size), |entry| {
        if !entry.copied && entry.bytes(header).is_some() {
            end = entry.guest.saturating_add(header.cluster_bytes());
        }
        Ok(())
    })?;
    Ok(end)
}

/// Counts what all snapshots and the active disk refer to, and compares with the counts in the file. The counts are read
/// first: QEMU writes a table that lets go of a cluster before it counts the cluster lower.
pub(super) fn undercounted(
    source: &impl ReadAt,
    header: &Header,
    snapshots: &[Snapshot],
) -> Result<Vec<u64>, Qcow2Error> {
    let counts = Counts::read(source, header)?;
    let cluster = header.cluster_bytes();
    let mut references: HashMap<u64, u64> = HashMap::new();
    let span = |offset: u64, length: u64, references: &mut HashMap<u64, u64>| {
        let (from, to) = (
            offset / cluster,
            offset.saturating_add(length).div_ceil(cluster),
        );
        for index in from..to.min(from + (1 << 20)) {
            *references.entry(index).or_default() += 1;
        }
    };
    let active = (header.l1_offset, u64::from(header.l1_entries));
    let kept = snapshots.iter().map(|snapshot| {
        let l1 = snapshot_l1(source, header, snapshot);
        (snapshot.l1_offset, u64::from(snapshot.l1_entries), l1)
    });
    let l1 = table(source, "the L1 table", active.0, active.1);
    for (offset, entries, l1) in kept.chain([(active.0, active.1, l1)]) {
        span(offset, entries * 8, &mut references);
        let mut tables = Vec::new();
        let mut clusters = Vec::new();
        walk(
            source,
            header,
            &l1?,
            |offset| tables.push(offset),
            |entry| {
                clusters.extend(entry.bytes(header));
                Ok(())
            },
        )?;
        for offset in tables {
            span(offset, cluster, &mut references);
        }
        for (offset, length) in clusters {
            span(offset, length, &mut references);
        }
    }
    let mut low = Vec::new();
    for (index, wanted) in references {
        if counts.of(header, index) < wanted {
            low.push(index << header.cluster_bits);
        }
    }
    low.sort_unstable();
    Ok(low)
}

/// The reference counts in the file, block by block; nothing where a block is not there.
struct Counts {
    blocks: Vec<Option<Vec<u8>>>,
}

impl Counts {
    fn read(source: &impl ReadAt, header: &Header) -> Result<Self, Qcow2Error> {
        let entries = (u64::from(header.refcount_table_clusters) << header.cluster_bits) / 8;
        let table = table(
            source,
            "the reference count table",
            header.refcount_table_offset,
            entries,
        )?;
        // No file has more blocks than clusters.
        let file = source.length().map_err(|source| Qcow2Error::Io {
            what: "the file's length".into(),
            source,
        })?;
        let mut left = file.div_ceil(header.cluster_bytes());
        let mut blocks = Vec::new();
        for entry in table {
            let offset = placed(header, "a reference count block", entry)?;
            if offset == 0 {
                blocks.push(None);
                continue;
            }
            left = left
                .checked_sub(1)
                .ok_or_else(|| damaged("it has more reference count blocks than clusters"))?;
            let length = header.cluster_bytes();
            let block = read_bytes(source, "a reference count block", offset, length, length)?;
            blocks.push(Some(block));
        }
        Ok(Self { blocks })
    }

    fn of(&self, header: &Header, index: u64) -> u64 {
        let per_block = (header.cluster_bytes() * 8) >> header.refcount_order;
        let block = usize::try_from(index / per_block)
            .ok()
            .and_then(|block| self.blocks.get(block)?.as_ref());
        let Some(block) = block else { return 0 };
        let bit = (index % per_block) << header.refcount_order;
        let width = 1u64 << header.refcount_order;
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        let value = number(block, at, usize::try_from(width.div_ceil(8)).unwrap_or(8));
        if width >= 8 {
            value
        } else {
            value >> (bit % 8) & ((1 << width) - 1)
        }
    }
}
