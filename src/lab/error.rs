//! What a lab's verbs can fail with.

use crate::guest::GuestError;
use crate::hostnet::HostNetError;
use crate::hypervisor::HypervisorError;
use crate::image::ImageError;
use crate::journal::JournalError;
use crate::plan::{Blocked, Conflict};

use super::LockError;

/// One host that did not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFailure {
    /// The host, or the network.
    pub thing: String,
    /// What failed.
    pub why: String,
    /// What to do about it.
    pub cure: String,
}

/// A failure. `Display` says what failed; [`LabError::cures`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The hypervisor.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// This machine's network.
    #[error(transparent)]
    HostNet(#[from] HostNetError),
    /// A guest.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another twin is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no such lab.
    #[error("there is no lab {name}")]
    NoLab {
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No lab was named, and there is not just one.
    #[error("{}", if known.is_empty() { "there is no lab".to_owned() } else { format!("there are several labs: {}", known.join(", ")) })]
    WhichLab {
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such host.
    #[error("there is no host {name} in lab {lab}")]
    NoHost {
        /// Its name.
        name: String,
        /// The lab.
        lab: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The lab was made from another topology.
    #[error("lab {lab} was made from the topology {was}, not from {asked}")]
    OtherTopology {
        /// The lab.
        lab: String,
        /// The topology it was made from.
        was: String,
        /// The topology named now.
        asked: String,
        /// The command that makes another lab beside it.
        instead: String,
    },
    /// Something that is not the lab's is in the way.
    #[error("{}", conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Conflicts {
        /// All of it.
        conflicts: Vec<Conflict>,
        /// The command that works.
        instead: Option<String>,
    },
    /// Something was decided when the lab was made, and is asked for otherwise now.
    #[error("lab {lab} was made {was}, and {asked} is asked for")]
    Decided {
        /// The lab.
        lab: String,
        /// What was decided: `at scale 16`.
        was: String,
        /// What is asked for.
        asked: String,
    },
    /// There are no such hosts.
    #[error("{flag} {asked} names no host of {lab}")]
    NoSuchHosts {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        asked: String,
        /// The lab.
        lab: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The pool is not mounted.
    #[error("the pool {} is not mounted, and labs are in it", pool.display())]
    PoolAway {
        /// Where it belongs.
        pool: std::path::PathBuf,
        /// The file that it is in.
        image: std::path::PathBuf,
    },
    /// A change needs to be asked for.
    #[error("{}", blocked.iter().map(|blocked| format!("{}: {}", blocked.thing, blocked.why)).collect::<Vec<_>>().join("\n"))]
    Blocked {
        /// All of them.
        blocked: Vec<Blocked>,
    },
    /// Some hosts did not come up.
    #[error("{}", failures.iter().map(|failure| format!("{}: {}", failure.thing, failure.why)).collect::<Vec<_>>().join("\n"))]
    Hosts {
        /// All of them.
        failures: Vec<HostFailure>,
    },
    /// A disk did not outlive the last end of this machine.
    #[error(
        "{host}: {} was in use when this machine ended, and qemu-img check finds {errors} errors in it; {why}",
        path.display()
    )]
    DamagedDisk {
        /// Its host.
        host: String,
        /// Its file.
        path: std::path::PathBuf,
        /// How many errors it has.
        errors: u64,
        /// Why they could not be mended.
        why: String,
    },
    /// No scale fits.
    #[error(
        "the lab does not fit this machine, even at scale {largest}: {need} are needed and {available} can be had"
    )]
    NoScale {
        /// The smallest lab there is.
        largest: u32,
        /// Its need.
        need: crate::units::Mib,
        /// Available memory.
        available: crate::units::Mib,
    },
    /// The topology's addresses cannot be moved out of the way.
    #[error("no free addresses were found for lab {lab}")]
    NoAddresses {
        /// The lab.
        lab: String,
    },
    /// No accelerator boots anything.
    #[error("no accelerator works: {why}")]
    NoAccelerator {
        /// What was tried.
        why: String,
    },
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done to which file.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl LabError {
    /// Names a file operation.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What to do about it, a line each.
    pub fn cures(&self) -> Vec<String> {
        match self {
            Self::Hypervisor(error) => vec![error.cure()],
            Self::HostNet(HostNetError::Permission { .. }) => vec!["run as root".into()],
            Self::HostNet(_) => vec!["`twin doctor` may tell more".into()],
            Self::Guest(error) => vec![error.cure().into()],
            Self::Image(error) => vec![error.cure()],
            Self::Journal(error) => vec![error.cure()],
            Self::Lock(error) => vec![error.cure()],
            Self::NoLab { known, .. } if known.is_empty() => vec!["`twin up` makes one".into()],
            Self::NoLab { known, .. } => vec![format!("there is: {}", known.join(", "))],
            Self::WhichLab { known } if known.is_empty() => vec!["`twin up` makes one".into()],
            Self::WhichLab { .. } => vec!["name one with --lab".into()],
            Self::NoHost { known, .. } => vec![format!("there is: {}", known.join(", "))],
            Self::OtherTopology {
                lab, was, instead, ..
            } => vec![
                format!(
                    "`twin --lab {lab} up {was}` goes on with it, where {was} is its file or name"
                ),
                format!("`{instead}` makes another lab beside it"),
            ],
            Self::Decided { lab, .. } => vec![format!(
                "it stays as it was made; `twin --lab {lab} destroy`, then the same command again, makes it otherwise: its disks and baselines go with that"
            )],
            Self::NoSuchHosts { known, .. } => vec![format!("there is: {}", known.join(", "))],
            Self::PoolAway { pool, image } => vec![format!(
                "`mount -o loop,noatime {} {}` mounts it, and so does scripts/host-setup.sh",
                image.display(),
                pool.display()
            )],
            Self::Conflicts { conflicts, instead } => conflict_cures(conflicts, instead.as_deref()),
            Self::Blocked { blocked } => {
                blocked.iter().map(|blocked| blocked.cure.clone()).collect()
            }
            Self::Hosts { failures } => {
                let mut cures: Vec<String> = failures
                    .iter()
                    .map(|failure| failure.cure.clone())
                    .collect();
                cures.dedup();
                cures
            }
            Self::DamagedDisk { host, path, .. } => vec![format!(
                "copy {} away if something on it matters; `twin up TOPOLOGY --replace {host} --blank` discards it, with the baselines that need it",
                path.display()
            )],
            Self::NoScale { .. } => vec!["free memory, or take hosts out of the topology".into()],
            Self::NoAddresses { .. } => vec!["give the topology other networks".into()],
            Self::NoAccelerator { .. } => vec![
                "install QEMU with scripts/host-setup.sh; `twin doctor` shows what was tried"
                    .into(),
            ],
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                vec!["free space on the state disk, then run the same command again".into()]
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                vec!["run as root, or as the owner of the state directory".into()]
            }
            Self::Io { .. } => {
                vec!["see that the state directory is there and can be written to".into()]
            }
        }
    }
}

fn conflict_cures(conflicts: &[Conflict], instead: Option<&str>) -> Vec<String> {
    let mut cures: Vec<String> = Vec::new();
    if conflicts.iter().any(Conflict::other_lab_helps)
        && let Some(instead) = instead
    {
        cures.push(format!("this works beside it: `{instead}`"));
    }
    for conflict in conflicts {
        match conflict {
            Conflict::Memory { .. } => {
                cures.push("free memory, or make a smaller lab with a larger --scale".into());
            }
            Conflict::Disk { .. } => cures.push(
                "free space on the state disk, or make a smaller lab with a larger --scale".into(),
            ),
            Conflict::SocketPath { .. } => {
                cures.push("choose a shorter --state-dir or host name".into());
            }
            _ => {}
        }
    }
    cures.dedup();
    cures
}
