//! `kernel-log`: a line of a guest kernel's log, as QEMU wrote it to the serial log on this machine. `console`: any line there,
//! whoever wrote it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use async_trait::async_trait;
use regex::Regex;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, arguments};
use crate::storage::Guarded;

pub(super) const NAME: &str = "kernel-log";
pub(super) const CONSOLE: &str = "console";

/// The most that is read of a log at once.
const MOST_BYTES: u64 = 8 << 20;

#[derive(Debug)]
struct KernelLog {
    host: String,
    matches: Regex,
    /// Whether anybody's lines count.
    anybody: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    parse_as(NAME, node, reader)
}

pub(super) fn parse_console(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    parse_as(CONSOLE, node, reader)
}

fn parse_as(name: &'static str, node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, name)?;
    let host = arguments::host_of(&mut fields, reader);
    let matches = fields
        .required("matches", reader)
        .and_then(|node| reader.scalar::<Regex>(node, "regular expression"));
    fields.finish(reader);
    Some(Box::new(KernelLog {
        host: host?,
        matches: matches?,
        anybody: name == CONSOLE,
    }))
}

/// The length of a host's serial log.
pub(super) fn mark(world: &World, host: &str) -> Result<u64, ActionError> {
    let path = &world.host(host)?.spec.serial_log;
    let metadata = path
        .metadata()
        .map_err(|error| ActionError::Target(format!("{}: {error}", path.display())))?;
    Ok(metadata.len())
}

/// The whole lines that a host's serial log has grown by since `from`. A log that virtlogd has rotated meanwhile starts
/// over, its earlier part in the file's `.0`.
pub(super) fn lines_since(
    world: &World,
    host: &str,
    from: u64,
) -> Result<Vec<String>, ActionError> {
    let path = &world.host(host)?.spec.serial_log;
    let fail = |error: std::io::Error| ActionError::Target(format!("{}: {error}", path.display()));
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

impl KernelLog {
    fn source(&self, world: &World) -> String {
        if self.anybody {
            return format!("the serial console of {}", self.host);
        }
        source(world, &self.host)
    }
}

#[async_trait]
impl Probe for KernelLog {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        Ok(mark(world, &self.host)?.into())
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let lines = lines_since(world, &self.host, begun.as_u64().unwrap_or_default())?;
        let found = lines.iter().filter(|line| self.matches.is_match(line));
        let found: Vec<_> = found
            .map(|line| evidence(self.source(world), line.as_str()))
            .collect();
        Ok(if found.is_empty() {
            Finding::Quiet
        } else {
            Finding::Fired(found)
        })
    }
}
