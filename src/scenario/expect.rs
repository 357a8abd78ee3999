//! What a variant expects of a probe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is expected of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// It fires.
    Fires,
    /// It does not.
    Never,
    /// It holds at each look of one that looks all the time, but for the misses that it may have.
    Always,
}

impl Expect {
    pub(super) const WORDS: &'static [(&'static str, Self)] = &[
        ("fires", Self::Fires),
        ("never", Self::Never),
        ("always", Self::Always),
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fires => "fires",
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}
