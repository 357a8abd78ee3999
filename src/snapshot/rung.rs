//! Rungs: ways to take a baseline, the best first.

use serde::{Deserialize, Serialize};

/// A way to take a baseline.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Memory is in files that are shared block by block; the rest is put back into the running process.
    Reflink,
    /// The same, with the files copied.
    Copy,
    /// Memory is written to and read from the disks' files as a stream, all hosts at once.
    Stream,
    /// Disks of hosts that are off.
    Disks,
}

impl Rung {
    /// The word that flags and documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Copy => "copy",
            Self::Stream => "stream",
            Self::Disks => "disks",
        }
    }

    /// All, the best first.
    pub const ALL: [Self; 4] = [Self::Reflink, Self::Copy, Self::Stream, Self::Disks];
}

impl std::fmt::Display for Rung {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
