//! What this machine can do, a line each, with the cure where it cannot.

mod accelerator;
mod checks;
mod payload;
mod ram_file;

pub use accelerator::{Accelerators, TimedProbe};
pub use checks::{Examination, examine};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a line is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// All is well.
    Ok,
    /// It works, less well than it could.
    Degraded,
    /// It does not work.
    Missing,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// What it is about.
    pub id: String,
    /// How it is.
    pub state: Health,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Line {
    /// A line about something that is as it should be.
    pub fn ok(id: &str, detail: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            state: Health::Ok,
            detail: detail.into(),
            cure: None,
        }
    }

    /// A line about something that works less well than it could.
    pub fn degraded(id: &str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            state: Health::Degraded,
            detail: detail.into(),
            cure: Some(cure.into()),
        }
    }

    fn missing(id: &str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            state: Health::Missing,
            detail: detail.into(),
            cure: Some(cure.into()),
        }
    }
}
