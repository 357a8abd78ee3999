//! Whether a baseline is what it was.

use std::path::{Path, PathBuf};

use futures::future::join_all;

use super::manifest::{FileRecord, HostRecord, Manifest};
use super::set::{Set, blocking};
use super::{SnapshotError, files};
use crate::hypervisor::{Anatomy, Memory, Power};
use crate::lab::damage;

/// What can be known without reading everything: files, their sizes, and the saved device states. Returns what is wrong.
pub async fn check(set: &Set<'_>, manifest: &Manifest) -> Result<Vec<String>, SnapshotError> {
    examine(set, manifest, false).await
}

/// Reads everything. Returns what is wrong.
pub async fn verify(set: &Set<'_>, manifest: &Manifest) -> Result<Vec<String>, SnapshotError> {
    examine(set, manifest, true).await
}

async fn examine(
    set: &Set<'_>,
    manifest: &Manifest,
    all: bool,
) -> Result<Vec<String>, SnapshotError> {
    let directory = set.baselines().join(&manifest.name);
    let mut findings = Vec::new();
    if manifest.lab != set.lab() {
        findings.push(format!("it is of another lab, {}", manifest.lab_name));
    }
    let hosts = manifest
        .hosts
        .iter()
        .map(|host| examine_host(set, manifest, host, &directory, all));
    for outcome in join_all(hosts).await {
        findings.extend(outcome?);
    }
    Ok(findings)
}

async fn examine_host(
    set: &Set<'_>,
    manifest: &Manifest,
    host: &HostRecord,
    directory: &Path,
    all: bool,
) -> Result<Vec<String>, SnapshotError> {
    let mut findings = Vec::new();
    let below = host.disks.iter().flat_map(|disk| &disk.chain);
    let own = host
        .ram
        .iter()
        .chain(host.nvram.iter().map(|(file, _)| file));
    // A path of another directory is absolute, and joining leaves it as it is.
    for file in below.chain(&host.read_only).chain(own) {
        findings.extend(examine_file(directory.join(&file.path), file.clone(), all).await?);
    }
    // What was in use when this machine ended may be damaged also where the baseline has nothing of it.
    let is = set.found.host(&host.name).ok();
    if let Some(is) = is.filter(|is| is.domain.power == Power::ShutOff) {
        findings.extend(damage(&is.spec).await?);
    }
    let files: Vec<PathBuf> = host
        .disks
        .iter()
        .map(|disk| disk.state.path.clone())
        .collect();
    let states = set
        .drivers
        .hypervisor
        .inspection
        .examine(&files, &manifest.state(), all)
        .await?;
    for (disk, state) in host.disks.iter().zip(states) {
        let path = disk.state.path.display();
        match state {
            Err(why) => findings.push(why),
            Ok(state) => {
                if (state.state_bytes, &state.state_sha256)
                    != (disk.state.state_bytes, &disk.state.state_sha256)
                {
                    findings.push(format!(
                        "{path}: the device state in it is not what was captured"
                    ));
                }
                if all && state.content_sha256 != disk.state.content_sha256 {
                    findings.push(format!(
                        "{path}: the disk content in it is not what was captured"
                    ));
                }
            }
        }
    }
    Ok(findings)
}

async fn examine_file(
    path: PathBuf,
    record: FileRecord,
    all: bool,
) -> Result<Option<String>, SnapshotError> {
    blocking("reading", path.clone(), move || {
        let shown = path.display();
        let length = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Some(format!("{shown} is missing")));
            }
            other => other?.len(),
        };
        if length != record.bytes {
            return Ok(Some(format!(
                "{shown} has {length} bytes, and had {}",
                record.bytes
            )));
        }
        if all && files::checksum(&path)? != record.sha256 {
            return Ok(Some(format!("{shown}: its content is not what it was")));
        }
        Ok(None)
    })
    .await
}

/// Why saved device state cannot be loaded on this machine as it is now; empty where it can.
pub(super) fn differs(manifest: &Manifest) -> Vec<String> {
    if manifest
        .hosts
        .iter()
        .all(|host| host.memory == Memory::None)
    {
        return Vec::new();
    }
    let (was, is) = (&manifest.cpu, &super::restore::cpu());
    if was == is {
        return Vec::new();
    }
    vec![format!(
        "the CPU was {was} when the baseline was taken, and is {is} now: saved device state cannot be trusted there"
    )]
}

/// Why a host's saved state would be loaded by another QEMU than the one that saved it; nothing where it would not, or where
/// there is none. A process of an old QEMU that runs on after an upgrade loads its own.
pub(super) async fn other_emulator(
    set: &Set<'_>,
    manifest: &Manifest,
    record: &HostRecord,
    now: &Anatomy,
) -> Option<String> {
    if record.memory == Memory::None {
        return None;
    }
    let saved = record.emulator.as_ref().unwrap_or(&manifest.hypervisor);
    let loads = if super::restore::restart(record, now).is_none() {
        now.emulator.clone()
    } else {
        let hypervisor = &set.drivers.hypervisor;
        hypervisor
            .inspection
            .emulator(&record.definition)
            .await
            .ok()
    };
    match loads {
        Some(loads) if loads == *saved => None,
        Some(loads) => Some(format!(
            "{}: its state was saved by {saved}, and {loads} would load it",
            record.name
        )),
        None => Some(format!(
            "{}: its state was saved by {saved}, and what would load it does not tell its version",
            record.name
        )),
    }
}

/// The baselines whose saved states would be loaded by another QEMU than the one that saved them, and why.
pub async fn need_another_emulator(set: &Set<'_>) -> Result<Vec<(String, String)>, SnapshotError> {
    let parts = set.anatomies().await?;
    let mut needing = Vec::new();
    for listed in super::list(set.layout, set.lab())? {
        let Ok(manifest) = &listed.manifest else {
            continue;
        };
        let mut why = Vec::new();
        for record in &manifest.hosts {
            if let Some((_, now)) = parts.iter().find(|(name, _)| *name == record.name) {
                why.extend(other_emulator(set, manifest, record, now).await);
            }
        }
        if !why.is_empty() {
            needing.push((listed.name, why.join("; ")));
        }
    }
    Ok(needing)
}
