//! What QEMU wrote to a host's serial log on this machine.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::prelude::*;
use crate::scenario::arguments::Pattern;
use crate::storage::Guarded;

/// The most that is read of a log at once.
const MOST_BYTES: u64 = 8 << 20;

/// The length of a host's serial log.
pub(super) fn mark(world: &World, host: &str) -> Result<u64, FaultError> {
    let path = &world.host(host)?.spec.serial_log;
    let metadata = path
        .metadata()
        .map_err(|error| FaultError::Target(format!("{}: {error}", path.display())))?;
    Ok(metadata.len())
}

/// The whole lines that a host's serial log has grown by since `from`. A log that virtlogd has rotated meanwhile starts
/// over, its earlier part in the file's `.0`.
pub(super) fn lines_since(world: &World, host: &str, from: u64) -> Result<Vec<String>, FaultError> {
    let path = &world.host(host)?.spec.serial_log;
    let fail = |error: std::io::Error| FaultError::Target(format!("{}: {error}", path.display()));
    let length = path.metadata().map_err(fail)?.len();
    let mut bytes = Vec::new();
    if length < from {
        let rotated = format!("{}.0", path.display());
        bytes.extend(read(Path::new(&rotated), from).unwrap_or_default());
        bytes.extend(read(path, 0).map_err(fail)?);
    } else {
        bytes.extend(read(path, from).map_err(fail)?);
    }
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect())
}

fn read(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = Guarded::at(path).open()?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names the source of a line.
pub(super) fn source(world: &World, host: &str) -> String {
    let path = world
        .host(host)
        .map(|host| host.spec.serial_log.display().to_string())
        .unwrap_or_default();
    format!("{host}'s kernel, by its serial console in {path}")
}

/// The lines since `from` that match, as evidence from `source`.
pub(super) fn matching(
    world: &World,
    host: &str,
    (from, matches, source): (u64, &Pattern, &str),
) -> Result<Finding, FaultError> {
    let lines = lines_since(world, host, from)?;
    let found = lines.iter().filter(|line| matches.is_match(line));
    let found: Vec<_> = found.map(|line| evidence(source, line.as_str())).collect();
    Ok(if found.is_empty() {
        Finding::Quiet
    } else {
        Finding::Fired(found)
    })
}
