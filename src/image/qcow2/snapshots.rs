//! The snapshot table.

use super::error::{Qcow2Error, damaged};
use super::header::Header;
use super::source::{ReadAt, number, read_bytes};

/// QEMU's own limits.
const MOST_SNAPSHOTS: u32 = 65_536;
const MOST_EXTRA_BYTES: u64 = 1024;
const MOST_L1_BYTES: u64 = 32 << 20;

/// Bytes of an entry without its extra data, id and name.
const FIXED_BYTES: u64 = 40;

/// One internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// QEMU's number for it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Bytes of saved device state and memory.
    pub vm_state_bytes: u64,
    /// The disk's size when it was made, in bytes.
    pub disk_bytes: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
}

pub(super) fn read(source: &impl ReadAt, header: &Header) -> Result<Vec<Snapshot>, Qcow2Error> {
    if header.snapshot_count > MOST_SNAPSHOTS {
        return Err(damaged(format!("{} snapshots", header.snapshot_count)));
    }
    let mut snapshots = Vec::new();
    let mut at = header.snapshots_offset;
    let behind = || damaged("its snapshot table lies behind its end");
    for _ in 0..header.snapshot_count {
        let fixed = read_bytes(source, "the snapshot table", at, FIXED_BYTES, FIXED_BYTES)?;
        let (id, name) = (number(&fixed, 12, 2), number(&fixed, 14, 2));
        let extra = number(&fixed, 36, 4);
        if extra > MOST_EXTRA_BYTES {
            return Err(damaged(format!("{extra} bytes of a snapshot's extra data")));
        }
        let rest = extra + id + name;
        let from = at.checked_add(FIXED_BYTES).ok_or_else(behind)?;
        let bytes = read_bytes(source, "the snapshot table", from, rest, rest)?;
        let text = |from: u64, length: u64| {
            let range = usize::try_from(from).ok()?..usize::try_from(from + length).ok()?;
            String::from_utf8(bytes.get(range)?.to_vec()).ok()
        };
        let unreadable = || damaged("a snapshot's name");
        let small = number(&fixed, 32, 4);
        let l1_entries = u32::try_from(number(&fixed, 8, 4)).unwrap_or(u32::MAX);
        if u64::from(l1_entries) * 8 > MOST_L1_BYTES {
            return Err(damaged(format!(
                "{l1_entries} entries in a snapshot's L1 table"
            )));
        }
        snapshots.push(Snapshot {
            id: text(extra, id).ok_or_else(unreadable)?,
            name: text(extra + id, name).ok_or_else(unreadable)?,
            vm_state_bytes: if extra >= 8 {
                number(&bytes, 0, 8)
            } else {
                small
            },
            disk_bytes: if extra >= 16 {
                number(&bytes, 8, 8)
            } else {
                header.size
            },
            l1_entries,
            l1_offset: number(&fixed, 0, 8),
        });
        at = from
            .checked_add(rest)
            .and_then(|end| end.checked_next_multiple_of(8))
            .ok_or_else(behind)?;
    }
    Ok(snapshots)
}
