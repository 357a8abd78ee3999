//! Which rung a set is taken by.

use std::path::Path;

use super::files::can_reflink;
use super::{Rung, SelfTest, SnapshotError};
use crate::hypervisor::{Anatomy, Memory};
use crate::lab::Layout;

/// The best rung that the state directory's file system allows for hosts whose memory is in files there.
pub fn best_rung(layout: &Layout) -> Rung {
    let pool = layout.pool();
    if can_reflink(&pool, &pool) {
        Rung::Reflink
    } else {
        Rung::Copy
    }
}

/// The rung chosen for a set, and where each host's memory goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) rung: Rung,
    pub(super) reasons: Vec<String>,
    pub(super) memory: Vec<Memory>,
}

/// Chooses the best rung that works for all hosts, or checks the one asked for.
pub(super) fn choose(
    hosts: &[(String, Anatomy)],
    directory: &Path,
    self_test: Option<&SelfTest>,
    mode: Option<Rung>,
) -> Result<Choice, SnapshotError> {
    let cannot = |mode, why: String| Err(SnapshotError::Mode { mode, why });
    let alive: Vec<&(String, Anatomy)> = hosts.iter().filter(|(_, part)| part.process).collect();
    let mut reasons = Vec::new();
    if alive.is_empty() {
        return Ok(Choice {
            rung: Rung::Disks,
            reasons: vec!["no host runs".into()],
            memory: vec![Memory::None; hosts.len()],
        });
    }
    if mode == Some(Rung::Disks) {
        let running: Vec<&str> = alive.iter().map(|(name, _)| name.as_str()).collect();
        let running = running.join(", ");
        return cannot(
            Rung::Disks,
            format!("{running} must be off for it: `twin down` first"),
        );
    }
    let in_place = not_in_place(&alive, self_test);
    let shares = alive
        .iter()
        .filter_map(|(_, part)| part.ram_file.as_ref())
        .all(|file| {
            file.path()
                .parent()
                .is_some_and(|from| can_reflink(from, directory))
        });
    let copy_why = "the file system of the state directory cannot share blocks (no reflink)";
    let rung = match (mode, in_place) {
        (Some(mode @ (Rung::Reflink | Rung::Copy)), Some(why)) => return cannot(mode, why),
        (Some(Rung::Reflink), None) if !shares => return cannot(Rung::Reflink, copy_why.into()),
        (Some(mode), _) => {
            reasons.push(format!("mode {mode} was asked for"));
            mode
        }
        (None, Some(why)) => {
            reasons.push(why);
            Rung::Stream
        }
        (None, None) if shares => Rung::Reflink,
        (None, None) => {
            reasons.push(copy_why.into());
            Rung::Copy
        }
    };
    let memory = hosts.iter().map(|(_, part)| match (part.process, rung) {
        (false, _) => Memory::None,
        (true, Rung::Reflink | Rung::Copy) => Memory::File,
        (true, _) => Memory::Stream,
    });
    Ok(Choice {
        rung,
        reasons,
        memory: memory.collect(),
    })
}

/// Why memory cannot be put back into a running process; nothing where it can.
fn not_in_place(alive: &[&(String, Anatomy)], self_test: Option<&SelfTest>) -> Option<String> {
    if let Some(why) = self_test.and_then(|test| test.failure.as_deref()) {
        return Some(format!("the self-test of memory in a file failed: {why}"));
    }
    let elsewhere: Vec<&str> = alive
        .iter()
        .filter(|(_, part)| part.ram_file.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    (!elsewhere.is_empty()).then(|| {
        format!(
            "the memory of {} is not in a file (ram: anon)",
            elsewhere.join(", ")
        )
    })
}
