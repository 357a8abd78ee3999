//! Why a baseline cannot be taken or restored.

use super::Rung;
use crate::lab::{LabError, MORE_SPACE};

/// Why a baseline cannot be taken or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The lab or the machine.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// What was said.
        #[source]
        source: std::io::Error,
    },
    /// There is no such baseline.
    #[error("there is no baseline {name}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is one of this name.
    #[error("there is a baseline {name} already")]
    Exists {
        /// Its name.
        name: String,
    },
    /// Something cannot be captured or put back; nothing was stopped.
    #[error("nothing was stopped:\n{}", .findings.join("\n"))]
    Refused {
        /// What, a line each.
        findings: Vec<String>,
        /// What to do about it.
        cures: Vec<String>,
    },
    /// The mode that was asked for cannot be had.
    #[error("mode {mode} cannot be had here: {why}")]
    Mode {
        /// The mode.
        mode: Rung,
        /// Why.
        why: String,
    },
    /// What the topology asks of this baseline does not hold.
    #[error("the gates of baseline {name} do not hold:\n{}", .findings.join("\n"))]
    Gates {
        /// The baseline.
        name: String,
        /// What does not hold.
        findings: Vec<String>,
    },
    /// Its files are not what they were.
    #[error("baseline {name} is damaged:\n{}", .findings.join("\n"))]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        findings: Vec<String>,
    },
    /// It failed, and all is as it was before.
    #[error("{what} failed, and everything was put back: {why}")]
    PutBack {
        /// What was tried.
        what: String,
        /// Why it failed.
        why: String,
        /// What to do about it.
        cures: Vec<String>,
    },
    /// It failed, and something is left.
    #[error("{what} failed: {why}\nleft:\n{}", .left.join("\n"))]
    Dirty {
        /// What was tried.
        what: String,
        /// Why it failed.
        why: String,
        /// What is left.
        left: Vec<String>,
    },
    /// The hosts stood still for too long.
    #[error("the hosts stood still for {} s, and not all was captured", .longest.as_secs())]
    StandsTooLong {
        /// How long they may.
        longest: std::time::Duration,
    },
    /// The operator ended it before anything was stopped, or all was put back.
    #[error("interrupted; {state}")]
    Interrupted {
        /// What the lab is like.
        state: String,
    },
}

impl SnapshotError {
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What to do about it.
    pub fn cures(&self) -> Vec<String> {
        match self {
            Self::Lab(error) => error.cures(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                vec![MORE_SPACE.into()]
            }
            Self::Io { .. } => vec!["`twin doctor` may tell more".into()],
            Self::Unknown { known, .. } if known.is_empty() => {
                vec!["`twin snapshot NAME` takes one".into()]
            }
            Self::Unknown { known, .. } => vec![format!("there is: {}", known.join(", "))],
            Self::Exists { name } => vec![format!(
                "`twin snapshot {name} --remove` first, or choose another name"
            )],
            Self::Refused { cures, .. } | Self::PutBack { cures, .. } => cures.clone(),
            Self::Mode { .. } => vec![
                "without --mode the best one that works is chosen; `twin doctor` shows it".into(),
            ],
            Self::Gates { .. } => {
                vec!["see to it that they hold; or take it all the same with --force".into()]
            }
            Self::Damaged { name, .. } => vec![
                format!("`twin snapshot {name} --verify` shows all of it"),
                format!(
                    "`twin snapshot {name} --remove`, and take it anew from a lab in that state"
                ),
            ],
            Self::StandsTooLong { .. } => vec![
                "see that the state disk can be written to, then run the same command again".into(),
            ],
            Self::Dirty { .. } => vec!["run `twin recover`".into()],
            Self::Interrupted { .. } => Vec::new(),
        }
    }

    /// Whether something is left that `twin recover` has to see to.
    pub const fn is_dirty(&self) -> bool {
        matches!(self, Self::Dirty { .. })
    }
}

macro_rules! through_lab {
    ($($error:ty),*) => {
        $(impl From<$error> for SnapshotError {
            fn from(error: $error) -> Self {
                Self::Lab(error.into())
            }
        })*
    };
}

through_lab!(
    crate::journal::JournalError,
    crate::hypervisor::HypervisorError,
    crate::guest::GuestError
);
