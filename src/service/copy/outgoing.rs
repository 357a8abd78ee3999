//! What is sent to a host.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use super::error::{CopyError, STREAM};
use crate::storage;

/// What is sent to a host: a file, and its length, by which the guest detects a copy that was cut off.
pub(super) struct Outgoing {
    pub(super) file: std::fs::File,
    pub(super) bytes: u64,
    pub(super) mode: u32,
}

/// Opens what is to be copied. What comes from a stream is kept in a file without a name first: its length is known then.
pub(super) fn outgoing(from: &Path, to: &str) -> Result<Outgoing, CopyError> {
    let path = || from.to_owned();
    let wrong = |source| CopyError::Read {
        path: path(),
        source,
    };
    if from == Path::new(STREAM) {
        return spooled(&mut std::io::stdin().lock(), 0o666).map_err(wrong);
    }
    let mut file = std::fs::File::open(from).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    let kind = metadata.file_type();
    if metadata.is_file() {
        let (bytes, mode) = (metadata.len(), metadata.permissions().mode() & 0o7777);
        return Ok(Outgoing { file, bytes, mode });
    }
    if kind.is_fifo() {
        return spooled(&mut file, 0o666).map_err(wrong);
    }
    let (path, to) = (path(), to.to_owned());
    Err(if metadata.is_dir() {
        CopyError::Directory { path, to }
    } else {
        CopyError::Device { path, to }
    })
}

fn spooled(from: &mut impl std::io::Read, mode: u32) -> std::io::Result<Outgoing> {
    let mut file = tempfile::tempfile()?;
    let bytes = std::io::copy(from, &mut file)?;
    std::io::Seek::rewind(&mut file)?;
    let mode = storage::for_the_caller(mode);
    Ok(Outgoing { file, bytes, mode })
}
