//! The documents about baselines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `twin/snapshot/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotDocument {
    /// `twin/snapshot/v1`.
    pub schema: String,
    /// The baseline's name.
    pub name: String,
    /// How it was taken: `reflink`, `copy`, `stream` or `disks`.
    pub rung: String,
    /// Why not by a better rung.
    pub reasons: Vec<String>,
    /// From the first host that was asked to stand still until the last one ran again.
    pub set_pause_ms: u64,
    /// All of it.
    pub wall_ms: u64,
    /// Bytes by which the baseline and the disks grew.
    pub bytes_written: u64,
    /// Its hosts.
    pub hosts: Vec<BaselineHostDocument>,
}

/// A host of a baseline.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BaselineHostDocument {
    /// Its name.
    pub name: String,
    /// Whether it ran.
    pub power: crate::hypervisor::Power,
    /// Where its memory is: `file`, `stream` or `none`.
    pub memory: String,
    /// The machine type.
    pub machine: String,
    /// Files that make it up, with their checksums.
    pub files: Vec<BaselineFileDocument>,
}

/// A file of a baseline.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BaselineFileDocument {
    /// The file; relative to the baseline's directory where it is one of its own.
    pub path: String,
    /// Its length in bytes; of a disk, the bytes captured in it.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

/// `twin/baseline/v1`: one baseline, as `twin snapshot NAME --show` tells it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BaselineDocument {
    /// `twin/baseline/v1`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: Uuid,
    /// The lab's name.
    pub lab: String,
    /// A remark.
    pub note: Option<String>,
    /// When it was taken.
    pub created_at: String,
    /// How it was taken.
    pub rung: String,
    /// Why not by a better rung.
    pub reasons: Vec<String>,
    /// QEMU and its version.
    pub hypervisor: String,
    /// libvirt and its version.
    pub library: String,
    /// The machine's CPU.
    pub cpu: String,
    /// How long the set stood still.
    pub set_pause_ms: u64,
    /// Its hosts.
    pub hosts: Vec<BaselineHostDocument>,
}

/// `twin/snapshots/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotsDocument {
    /// `twin/snapshots/v1`.
    pub schema: String,
    /// The lab's name.
    pub lab: String,
    /// Its baselines, the oldest first.
    pub baselines: Vec<ListedDocument>,
    /// Bytes that the baselines' files take together, shared blocks counted once.
    pub total_bytes: Option<u64>,
    /// Baselines that the topology expects and that are not there.
    pub missing: Vec<String>,
}

/// A baseline in a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListedDocument {
    /// Its name.
    pub name: String,
    /// When it was taken; nothing where it cannot be read.
    pub created_at: Option<String>,
    /// How it was taken.
    pub rung: Option<String>,
    /// A remark.
    pub note: Option<String>,
    /// Hosts in it.
    pub hosts: usize,
    /// Bytes that its files take.
    pub bytes: u64,
    /// Bytes that nothing else has: what removing it would free.
    pub own_bytes: Option<u64>,
    /// Why it cannot be read, where it cannot.
    pub damage: Option<String>,
    /// Why its saved states would be loaded by another QEMU than the one that saved them, where they would.
    #[serde(default)]
    pub needs_emulator: Option<String>,
}

/// `twin/verify/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VerifyDocument {
    /// `twin/verify/v1`.
    pub schema: String,
    /// The baseline's name.
    pub name: String,
    /// What is wrong; empty where nothing is.
    pub findings: Vec<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// `twin/restore/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RestoreDocument {
    /// `twin/restore/v1`.
    pub schema: String,
    /// The baseline's name.
    pub name: String,
    /// How it was taken.
    pub rung: String,
    /// Until all hosts that ran ran again.
    pub running_ms: u64,
    /// Until all of them answered.
    pub ready_ms: u64,
    /// How far the guests' clocks are behind this machine's at most; negative where they are ahead.
    pub clock_lag_ms: Option<i64>,
    /// The hosts.
    pub hosts: Vec<RestoredHostDocument>,
}

/// A host that was put back.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RestoredHostDocument {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub power: crate::hypervisor::Power,
    /// Why its process had to be started anew, where it had to.
    pub restarted: Option<String>,
    /// How far its clock is behind this machine's.
    pub clock_lag_ms: Option<i64>,
}
