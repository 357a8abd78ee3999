//! What a hypervisor can fail with.

use std::time::Duration;

use crate::storage;

/// A failed call. `Display` says what failed; [`HypervisorError::cure`] what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HypervisorError {
    /// There is no connection, and none could be made.
    #[error("cannot reach {uri}: {why}")]
    Unreachable {
        /// Where.
        uri: String,
        /// What the library said.
        why: String,
    },
    /// The connection may not be used by this user.
    #[error("no permission to use {uri}: {why}")]
    Permission {
        /// Where.
        uri: String,
        /// What the library said.
        why: String,
    },
    /// The connection broke while the call ran: whether it took effect is not known.
    #[error("the connection broke during {what}: {why}")]
    Disconnected {
        /// The call.
        what: String,
        /// What the library said.
        why: String,
    },
    /// The call did not return in time: whether it takes effect is not known.
    #[error("{what} did not return within {deadline:?}")]
    Deadline {
        /// The call.
        what: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// There is no such thing.
    #[error("{what} is not there")]
    NotFound {
        /// The thing.
        what: String,
    },
    /// The thing carries no mark, or another lab's.
    #[error("{what} does not carry this lab's mark")]
    NotOurs {
        /// The thing.
        what: String,
    },
    /// The hypervisor refused.
    #[error("{what} failed: {why}")]
    Refused {
        /// The call.
        what: String,
        /// What the library said.
        why: String,
    },
}

impl HypervisorError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Unreachable { .. } => "start libvirtd, then run the same command again: `systemctl start libvirtd`, or `virtlogd -d; libvirtd -d` \
                 where no systemd runs; `scripts/host-setup.sh` does either"
                .into(),
            Self::Permission { .. } => "run as root; to look only, a member of the group libvirt will do: `sudo usermod -aG libvirt $USER`, then log in anew".into(),
            Self::Disconnected { .. } => "run the same command again; it goes on where it stopped".into(),
            Self::Deadline { .. } => "see whether libvirtd hangs (`virsh list` answers?), then run the same command again".into(),
            Self::NotFound { .. } => "`twin status` shows what is there; `twin up TOPOLOGY` brings back what is missing".into(),
            Self::NotOurs { .. } => "leave it, or choose another lab name with --lab".into(),
            Self::Refused { why, .. } if why.contains("Cannot find QEMU binary") || why.contains("emulator") || why.contains("No such file or directory: '/usr/bin/qemu") || why.contains("Cannot check QEMU binary") => {
                "install QEMU: `apt-get install qemu-system-x86`, or run scripts/host-setup.sh; then run the same command again".into()
            }
            Self::Refused { why, .. } if why.contains("No space left") => "free space on the state disk, then run the same command again".into(),
            Self::Refused { why, .. } if why.contains("Permission denied") => {
                storage::LET_PASS.into()
            }
            Self::Refused { .. } => "`twin doctor` may tell more; then run the same command again".into(),
        }
    }

    /// Whether the same call may succeed when the connection is made anew.
    pub const fn is_connection(&self) -> bool {
        matches!(self, Self::Disconnected { .. } | Self::Unreachable { .. })
    }
}
