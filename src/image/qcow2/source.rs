//! Bytes of a file, read at their places.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::{Qcow2Error, damaged};

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

/// Reads `length` bytes at `offset`, at most `most`.
pub(super) fn read_bytes(
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
pub(super) fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes
        .get(at..at.saturating_add(width))
        .unwrap_or_default()
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
