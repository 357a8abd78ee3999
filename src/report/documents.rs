//! The JSON documents. Fields may be added, never renamed. `*_ms` are durations, `*_at` RFC 3339 in UTC, sizes bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `twin/status/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusDocument {
    /// `twin/status/v1`.
    pub schema: String,
    /// The lab's name.
    pub lab: String,
    /// Its identity.
    pub uuid: Uuid,
    /// What payload sizes are divided by.
    pub scale: u32,
    /// How guests are run.
    pub accel: String,
    /// Its hosts.
    pub hosts: Vec<HostDocument>,
    /// Its networks.
    pub networks: Vec<NetworkDocument>,
    /// Names of its baselines, the oldest first.
    pub baselines: Vec<String>,
    /// Free space on the file system that labs are on, in bytes.
    pub free_bytes: u64,
    /// Bytes that are missing there when all memory of all running guests is written; 0 where it fits.
    pub short_bytes: u64,
    /// Domains and networks that carry a mark of the lab which is not their own; no verb touches them.
    #[serde(default)]
    pub strays: Vec<StrayDocument>,
    /// Whether something could not be put back.
    pub dirty: bool,
}

/// A domain or network with another's mark.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StrayDocument {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The name of the thing that the mark was made for.
    pub made_for: String,
    /// Whether it is that thing all the same, under another name.
    pub renamed: bool,
}

/// A host in a status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HostDocument {
    /// Its name.
    pub name: String,
    /// Its domain's name.
    pub domain: String,
    /// Its domain's UUID.
    pub uuid: Uuid,
    /// Whether it runs.
    pub power: crate::hypervisor::Power,
    /// Whether it is off, and was not switched off before this machine ended.
    pub cut_short: bool,
    /// `answers`, `silent`, or `none` where there is no way in or it does not run.
    pub agent: String,
    /// Its addresses.
    pub addresses: Vec<std::net::Ipv4Addr>,
    /// Its services.
    pub services: Vec<ServiceDocument>,
    /// Tenant instances it carries.
    pub instances: Vec<InstanceDocument>,
}

/// A service in a status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ServiceDocument {
    /// Its name.
    pub name: String,
    /// `healthy`, `starting`, `down`, or `stopped` where it is not meant to run.
    pub state: String,
}

/// An instance in a status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InstanceDocument {
    /// Its name.
    pub name: String,
    /// Nova's status, `ACTIVE` or `SHUTOFF`.
    pub status: String,
}

/// A network in a status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NetworkDocument {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Its addresses.
    pub cidr: crate::units::Cidr,
    /// Whether it is up.
    pub active: bool,
}

/// `twin/up/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UpDocument {
    /// `twin/up/v1`.
    pub schema: String,
    /// The lab's name.
    pub lab: String,
    /// How many steps changed something; in a dry run, would.
    pub changed: usize,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The steps.
    pub steps: Vec<StepDocument>,
    /// Until all hosts answered.
    pub ready_ms: u64,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// A step of `up`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StepDocument {
    /// Its id.
    pub id: String,
    /// What it did, or would.
    pub what: String,
    /// How long it took; 0 in a dry run.
    pub took_ms: u64,
}

/// `twin/change/v1`: what `down`, `destroy`, `release`, `power` and `snapshot --remove` did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChangeDocument {
    /// `twin/change/v1`.
    pub schema: String,
    /// The lab's name.
    pub lab: String,
    /// The verb.
    pub verb: String,
    /// What was changed, by name.
    pub changed: Vec<String>,
    /// What went with it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What was left, and why.
    #[serde(default)]
    pub left: Vec<String>,
    /// Whether `changed` is what would be changed, and nothing was.
    #[serde(default)]
    pub dry_run: bool,
    /// How long it took.
    pub took_ms: u64,
}

impl ChangeDocument {
    /// What a verb did to a lab, with nothing beside it.
    pub fn new(lab: &str, verb: &str, changed: Vec<String>) -> Self {
        Self {
            schema: "twin/change/v1".into(),
            lab: lab.to_owned(),
            verb: verb.to_owned(),
            changed,
            notes: Vec::new(),
            left: Vec::new(),
            dry_run: false,
            took_ms: 0,
        }
    }
}

/// `twin/exec/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExecDocument {
    /// `twin/exec/v1`.
    pub schema: String,
    /// The hosts it ran on.
    pub hosts: Vec<ExecHost>,
}

/// A host in an exec.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExecHost {
    /// Its name.
    pub name: String,
    /// The program's exit code; nothing where it could not be run.
    pub exit: Option<i32>,
    /// Its standard output, base64 where `stdout_encoding` says so.
    pub stdout: String,
    /// `utf-8` or `base64`.
    pub stdout_encoding: String,
    /// Its standard error.
    pub stderr: String,
    /// `utf-8` or `base64`.
    pub stderr_encoding: String,
    /// Why it could not be run.
    pub error: Option<String>,
}

/// `twin/doctor/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DoctorDocument {
    /// `twin/doctor/v1`.
    pub schema: String,
    /// The lines.
    pub lines: Vec<crate::doctor::Line>,
}

/// `twin/runs/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunsDocument {
    /// `twin/runs/v1`.
    pub schema: String,
    /// The runs, the last one first.
    pub runs: Vec<RunDocument>,
}

/// A run in a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunDocument {
    /// Its id.
    pub run: String,
    /// The scenario.
    pub scenario: String,
    /// The lab's name; nothing where an older twin ran it.
    pub lab: Option<String>,
    /// The seed.
    pub seed: u64,
    /// When it started.
    pub started_at: String,
    /// When it ended; nothing where it was killed.
    pub ended_at: Option<String>,
    /// Its verdict.
    pub verdict: Option<String>,
}

/// `twin/scenarios/v1`: the scenarios that can be run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScenariosDocument {
    /// `twin/scenarios/v1`.
    pub schema: String,
    /// The scenarios.
    pub scenarios: Vec<ScenarioEntry>,
}

/// A scenario in a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioEntry {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The decision it replays.
    pub incident: Option<String>,
    /// Its variants.
    pub variants: Vec<String>,
}

/// `twin/recover/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecoverDocument {
    /// `twin/recover/v1`.
    pub schema: String,
    /// The runs that had something open.
    pub runs: Vec<RecoveredRun>,
    /// Baselines and restores that were broken off and are finished now.
    pub finished: Vec<String>,
    /// What of those could not be finished.
    pub left: Vec<String>,
    /// In which ways the lab is not what it was before runs that were killed, where all has been put back.
    #[serde(default)]
    pub differences: Vec<String>,
}

/// A run that was recovered.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecoveredRun {
    /// Its id.
    pub run: String,
    /// What was put back.
    pub undone: Vec<String>,
    /// What could not be.
    pub left: Vec<String>,
}

/// `twin/halt/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HaltDocument {
    /// `twin/halt/v1`.
    pub schema: String,
    /// Whether runs are refused now.
    pub halted: bool,
    /// The runs that were under way and have ended.
    pub ended: Vec<String>,
    /// How long that took.
    pub took_ms: u64,
}

/// `twin/error/v1`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDocument {
    /// `twin/error/v1`.
    pub schema: String,
    /// What failed.
    pub error: String,
    /// What to do about it.
    pub cures: Vec<String>,
    /// The exit code.
    pub exit: u8,
    /// Mistakes in a file, where it is about one.
    pub findings: Vec<FindingDocument>,
}

/// A mistake in a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FindingDocument {
    /// The kind.
    pub rule: String,
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}
