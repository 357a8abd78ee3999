//! What came of a run. Fields may be added, never renamed: `twin/scenario-result/v1`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expect::Expect;

/// A run: `twin/scenario-result/v1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// `twin/scenario-result/v1`.
    pub schema: String,
    /// The run's id.
    pub run: String,
    /// The scenario.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// What stand-in timers were divided by; nothing where an older twin ran it.
    #[serde(default)]
    pub time_scale: Option<u32>,
    /// What it ran in.
    pub worlds: Vec<WorldResult>,
    /// Whether the worlds agree; nothing with one world.
    pub agreement: Option<bool>,
    /// The verdict.
    pub verdict: Verdict,
    /// What stood in for what.
    pub stand_ins: Vec<String>,
    /// What could not be put back.
    pub left: Vec<String>,
    /// Steps that were left in place on purpose.
    #[serde(default)]
    pub kept: Vec<String>,
    /// The baseline from before the run, where it is kept because the lab is not what it was.
    pub baseline: Option<String>,
    /// When it started.
    pub started_at: String,
    /// How long it took.
    pub took_ms: u64,
}

/// A scenario's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Each variant went as expected.
    Pass,
    /// One did not.
    Fail,
    /// An action did not take effect, or a probe could not look.
    Inconclusive,
    /// Something could not be put back.
    Dirty,
}

impl Verdict {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Dirty => "dirty",
        }
    }
}

/// A world of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorldResult {
    /// `lab`.
    pub world: String,
    /// The variants that were run.
    pub variants: Vec<VariantResult>,
}

/// How a variant went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As the scenario expects.
    AsExpected,
    /// Not so.
    Unexpected,
    /// What was seen does not decide it.
    Inconclusive,
}

/// A variant of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VariantResult {
    /// Its name.
    pub name: String,
    /// The hosts that its steps act on: name, domain and UUID.
    #[serde(default)]
    pub targets: Vec<TargetHost>,
    /// How it went.
    pub outcome: Outcome,
    /// Why, where it did not go as expected.
    pub why: Vec<String>,
    /// Whether every action took effect.
    pub injected: bool,
    /// Whether everything recovered after the undo.
    pub recovered: bool,
    /// From the first undo until everything had recovered.
    pub mttr_ms: Option<u64>,
    /// The probes.
    pub probes: Vec<ProbeResult>,
    /// The steps, undos included.
    pub steps: Vec<StepResult>,
    /// What the watched hosts said of their memory, about once a second.
    #[serde(default)]
    pub samples: Vec<MemorySample>,
    /// How long it took.
    pub took_ms: u64,
}

/// A host that is acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetHost {
    /// Its name.
    pub host: String,
    /// Its domain.
    pub domain: String,
    /// The domain's UUID.
    pub uuid: String,
}

/// A host's memory at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySample {
    /// The host.
    pub host: String,
    /// When, since the variant's first look.
    pub at_ms: u64,
    /// `MemTotal`, in bytes.
    pub total_bytes: u64,
    /// `MemAvailable`, in bytes.
    pub available_bytes: u64,
    /// `full avg10` of /proc/pressure/memory in percent, where the kernel has PSI.
    pub psi_full_avg10: Option<f64>,
    /// How long all tasks have waited for memory since boot: `full total` of it, in microseconds.
    #[serde(default)]
    pub psi_full_total_us: Option<u64>,
    /// `SwapTotal`, in bytes.
    #[serde(default)]
    pub swap_total_bytes: u64,
    /// What of it is used, in bytes.
    #[serde(default)]
    pub swap_used_bytes: u64,
    /// Processes that the kernel has killed for memory since boot.
    pub oom_kills: u64,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// It fired.
    Fired,
    /// It looked, and did not fire.
    Quiet,
    /// It could not look.
    Unknown,
    /// One that is to hold always held.
    Held,
    /// One that is to hold always missed more often than it may.
    Missed,
}

impl ProbeOutcome {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Quiet => "quiet",
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Missed => "missed",
        }
    }
}

/// What one look of a probe that looks all the time saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LookState {
    /// It holds.
    Held,
    /// It does not.
    Missed,
    /// It could not look.
    Unknown,
}

impl LookState {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// How a step, or the revert of one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It took effect.
    Verified,
    /// It did not take effect.
    NoEffect,
    /// It could not be done.
    Failed,
    /// It was reverted.
    Undone,
    /// It could not be reverted.
    Left,
}

impl StepOutcome {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NoEffect => "no-effect",
            Self::Failed => "failed",
            Self::Undone => "undone",
            Self::Left => "left",
        }
    }
}

/// A probe of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeResult {
    /// Its id.
    pub id: String,
    /// What was expected of it, where something was.
    pub expected: Option<Expect>,
    /// What it found.
    pub result: ProbeOutcome,
    /// When it fired, since the variant's first look.
    #[serde(default)]
    pub fired_ms: Option<u64>,
    /// How often one that looks all the time looked.
    #[serde(default)]
    pub looks: u64,
    /// How many of those looks missed.
    #[serde(default)]
    pub missed: u64,
    /// The most of them in a row.
    #[serde(default)]
    pub missed_in_row: u64,
    /// When what one that looks all the time saw changed.
    #[serde(default)]
    pub changes: Vec<LookChange>,
    /// What it saw, with its source.
    pub evidence: Vec<Evidence>,
}

/// What a probe that looks all the time saw from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LookChange {
    /// When, since the variant's first look.
    pub at_ms: u64,
    /// What it saw.
    pub state: LookState,
}

/// A piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// Where it comes from: a file, a guest's /proc, libvirt.
    pub source: String,
    /// What it says.
    pub text: String,
}

/// A step of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepResult {
    /// Its id; an undo's starts with `undo `.
    pub id: String,
    /// What it did.
    pub what: String,
    /// How it ended.
    pub result: StepOutcome,
    /// What was seen.
    pub detail: String,
    /// When it began, since the variant's first look.
    #[serde(default)]
    pub at_ms: u64,
    /// How long it took.
    pub took_ms: u64,
}

macro_rules! shown {
    ($($kind:ty),*) => {
        $(impl fmt::Display for $kind {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        })*
    };
}

shown!(Expect, LookState, ProbeOutcome, StepOutcome, Verdict);

impl ProbeResult {
    /// Whether it found what was expected; nothing where nothing was expected, or it could not look.
    pub fn as_expected(&self) -> Option<bool> {
        match (self.expected?, self.result) {
            (_, ProbeOutcome::Unknown) => None,
            (Expect::Fires, ProbeOutcome::Fired)
            | (Expect::Never, ProbeOutcome::Quiet)
            | (Expect::Always, ProbeOutcome::Held) => Some(true),
            _ => Some(false),
        }
    }
}
