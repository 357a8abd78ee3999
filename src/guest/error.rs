//! What a way into a guest can fail with.

use std::time::Duration;

/// A failed call. `Display` says what failed; [`GuestError::cure`] what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The guest is not there: the domain is off, or the way to it is missing.
    #[error("the guest cannot be reached: {why}")]
    Unreachable {
        /// Why.
        why: String,
    },
    /// No answer in time.
    #[error("{what} had no end within {deadline:?}{}", last.as_ref().map(|last| format!("; last: {last}")).unwrap_or_default())]
    Deadline {
        /// The call.
        what: String,
        /// How long was waited.
        deadline: Duration,
        /// The last thing seen.
        last: Option<String>,
    },
    /// The guest went away in the middle.
    #[error("the guest went away during {what}")]
    Gone {
        /// The call.
        what: String,
    },
    /// The guest answered that it cannot.
    #[error("the guest could not: {why}")]
    Refused {
        /// What it said.
        why: String,
    },
    /// This way cannot do that.
    #[error("{what} needs twin-guest, which this host's image does not have")]
    Unsupported {
        /// The call.
        what: &'static str,
    },
}

impl GuestError {
    /// What to do about it.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Gone { .. } => {
                "`twin status` shows whether the host runs; `twin power on HOST` starts it"
            }
            Self::Deadline { .. } => {
                "look at the host's console with `twin console HOST`; `twin power cycle HOST` starts it anew"
            }
            Self::Refused { .. } => "look at the host with `twin exec HOST -- CMD`",
            Self::Unsupported { .. } => "use a host with the image micro or debian",
        }
    }
}
