//! Why a verb failed.

use std::time::Duration;

use crate::guest::GuestError;
use crate::hostnet::HostNetError;
use crate::hypervisor::HypervisorError;
use crate::journal::JournalError;
use crate::lab::LabError;
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
