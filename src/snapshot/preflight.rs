//! What is looked at before anything is stopped.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use futures::future::join_all;

use super::choice::{Choice, choose};
use super::create::{Request, capturable};
use super::manifest::Manifest;
use super::nested::{self, ANSWER};
use super::set::{Set, blocking};
use super::{Rung, SelfTest, SnapshotError, gates};
use crate::hypervisor::{Anatomy, Machine, Power};
use crate::image::qcow2;
use crate::lab::{BLOCK_BYTES, MORE_SPACE, allocated, free_disk};
use crate::units::Mib;
use crate::wire::GuestState;

/// Space that is left over on the file system after everything has diverged.
pub(super) const RESERVE: Mib = Mib(64);

/// What is known before anything is stopped.
pub(super) struct Preflight {
    pub(super) machine: Machine,
    pub(super) parts: Vec<(String, Anatomy)>,
    pub(super) guests: Vec<(String, Option<GuestState>)>,
    pub(super) choice: Choice,
    pub(super) directory: PathBuf,
}

/// Looks at everything that could keep a baseline from being taken.
pub(super) async fn preflight(
    set: &Set<'_>,
    request: &Request,
    self_test: Option<&SelfTest>,
) -> Result<Preflight, SnapshotError> {
    let directory = set.baselines();
    if let Some(held) = Manifest::read(&directory.join(&request.name)).transpose() {
        held?;
        return Err(SnapshotError::Exists {
            name: request.name.clone(),
        });
    }
    crate::lab::Layout::make_shared(&directory)?;
    let machine = set.drivers.hypervisor.inventory.machine().await?;
    let (parts, guests, inner) =
        futures::join!(set.anatomies(), guests(set), nested::findings(set));
    let parts = parts?;
    let mut findings: Vec<String> = parts
        .iter()
        .flat_map(|(name, part)| {
            part.obstacles
                .iter()
                .map(move |why| format!("{name}: {why}"))
        })
        .collect();
    findings.extend(unreadable(&parts).await);
    let mut cures = Vec::new();
    if !inner.is_empty() {
        findings.extend(inner);
        cures.push("shut those guests down first".to_owned());
    }
    let mut states = Vec::new();
    for (host, outcome) in guests {
        states.push((host.clone(), outcome.as_ref().ok().cloned().flatten()));
        if let Err(why) = outcome {
            findings.push(format!("{host}: {why}"));
            cures.push("wait until it answers and no other twin talks to it (`twin exec`, `twin cp`); `twin status` shows it".to_owned());
        }
    }
    let choice = choose(&parts, &directory, self_test, request.mode)?;
    if let Some((why, cure)) = space(set, &parts, choice.rung) {
        findings.push(why);
        cures.push(cure);
    }
    if !findings.is_empty() {
        cures.dedup();
        return Err(SnapshotError::Refused { findings, cures });
    }
    let failing = gates::failing(&request.gates, &states, &request.dirty);
    if !failing.is_empty() {
        return Err(SnapshotError::Gates {
            name: request.name.clone(),
            findings: failing,
        });
    }
    Ok(Preflight {
        machine,
        parts,
        guests: states,
        choice,
        directory: directory.join(&request.name),
    })
}

/// Disks that hold state, or files below them, that this reader cannot read: what is captured in them could not be hashed.
async fn unreadable(parts: &[(String, Anatomy)]) -> Vec<String> {
    let disks = parts.iter().flat_map(|(name, part)| {
        let disks = capturable(part).into_iter();
        disks.map(move |disk| (name, disk))
    });
    let reads = disks.map(|(name, disk)| async move {
        let read = blocking("reading", disk.clone(), move || {
            qcow2::chain(&disk).map(drop).map_err(std::io::Error::other)
        });
        read.await.err().map(|error| format!("{name}: {error}"))
    });
    join_all(reads).await.into_iter().flatten().collect()
}

/// Asks each guest that runs for its state, which also shows that no call to it is under way.
async fn guests(set: &Set<'_>) -> Vec<(String, Result<Option<GuestState>, String>)> {
    let asks = set.found.hosts.iter().map(|host| async move {
        let name = host.name.to_string();
        if host.domain.power != Power::Running || host.spec.config.is_none() {
            return (name, Ok(None));
        }
        let Some(guest) = set.guest(host) else {
            return (name, Ok(None));
        };
        let clock = &set.drivers.clock;
        let state = match clock.timeout(ANSWER, guest.state()).await {
            Some(Ok(state)) => Ok(Some(state)),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("its guest does not answer within {ANSWER:?}")),
        };
        (name, state)
    });
    join_all(asks).await
}

/// Whether there is space for memory and disks to diverge wholly from the baseline.
fn space(set: &Set<'_>, parts: &[(String, Anatomy)], rung: Rung) -> Option<(String, String)> {
    let bytes: u64 = parts
        .iter()
        .filter(|(_, part)| part.process)
        .map(|(_, part)| {
            let memory = part.ram_file.as_ref().and_then(|file| {
                let found = file.open().and_then(|file| file.metadata()).ok()?;
                let (whole, used) = (found.len(), found.blocks() * BLOCK_BYTES);
                // The copy that is made now, and the live file grown to its full size.
                let now = if rung == Rung::Reflink { 0 } else { used };
                Some(now + whole)
            });
            memory.unwrap_or(0)
        })
        .sum();
    let streamed: u64 = set
        .found
        .hosts
        .iter()
        .filter(|_| rung == Rung::Stream)
        .map(|host| host.spec.memory.0 << 20)
        .sum();
    // What the disks hold now is kept when the guests write it anew.
    let disks: u64 = parts
        .iter()
        .flat_map(|(_, part)| capturable(part))
        .filter_map(|disk| allocated(&disk).ok())
        .sum();
    let (needed, free) = (
        Mib::from_bytes_ceil(bytes + streamed + disks).0 + RESERVE.0,
        free_disk(set.layout).0,
    );
    (needed > free).then(|| {
        (
            format!(
                "it may come to take {} when all memory and disks have changed, and {} is free on the state disk",
                Mib(needed),
                Mib(free)
            ),
            MORE_SPACE.to_owned(),
        )
    })
}
