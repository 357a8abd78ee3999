//! Why a verb failed.

use std::time::Duration;

use super::copy::CopyError;
use crate::guest::GuestError;
use crate::hostnet::HostNetError;
use crate::hypervisor::HypervisorError;
use crate::journal::JournalError;
use crate::lab::LabError;
use crate::scenario::ScenarioError;
use crate::snapshot::SnapshotError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The lab or the machine.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A baseline.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A scenario's run could not be made.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A file was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The hypervisor is another machine's.
    #[error("{connect} is not this machine's libvirt: {why}")]
    Elsewhere {
        /// The hypervisor.
        connect: String,
        /// How that is known.
        why: String,
    },
    /// A process of libvirt's or of a guest's runs where none should.
    #[error("{process} runs, and this is for the time before it: nothing was done")]
    HypervisorRuns {
        /// The process.
        process: String,
    },
    /// What is on record of a run cannot be read.
    #[error("what is on record of run {run} cannot be read: {why}")]
    UnreadableRun {
        /// The run.
        run: String,
        /// Why.
        why: String,
    },
    /// A run has left no event, and no result.
    #[error("run {run} has not come to its end")]
    UnfinishedRun {
        /// The run.
        run: String,
    },
    /// A host that was to go on is not paused.
    #[error("{host} is {power}, and not paused")]
    NotPaused {
        /// The host.
        host: String,
        /// What it is.
        power: String,
    },
    /// A host that was to be started is paused.
    #[error("{host} is paused, not off")]
    IsPaused {
        /// The host.
        host: String,
    },
    /// QEMU has paused a host anew that was let go.
    #[error("{host} was let go, and QEMU has paused it again: its disk could not be written")]
    PausedAgain {
        /// The host.
        host: String,
    },
    /// A host went off before its guest answered.
    #[error("{host} is {power} before its guest answered")]
    StoppedAtBoot {
        /// The host.
        host: String,
        /// What it is instead.
        power: String,
    },
    /// The halt cannot be written, or taken away.
    #[error("the halt cannot be written: {source}")]
    Halt {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Services are not healthy in time.
    #[error("not healthy within {within:?}: {}", .ill.join(", "))]
    Ill {
        /// Which, on which hosts.
        ill: Vec<String>,
        /// The time.
        within: Duration,
    },
    /// A run that was halted goes on.
    #[error("{holder} has not ended: {what} is still being changed")]
    GoesOn {
        /// The run.
        holder: String,
        /// The lab.
        what: String,
    },
}

macro_rules! through_lab {
    ($($error:ty),*) => {
        $(impl From<$error> for ServiceError {
            fn from(error: $error) -> Self {
                LabError::from(error).into()
            }
        })*
    };
}

through_lab!(JournalError, HypervisorError, GuestError, HostNetError);
