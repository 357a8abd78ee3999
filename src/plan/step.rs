//! Steps, and a plan as people read it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::spec::{DiskSpec, DomainSpec, Marked, NetworkSpec};
use crate::units::Name;

/// What a step is about. Steps about different hosts may run side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The lab as a whole.
    Lab,
    /// A network.
    Network(Name),
    /// A host.
    Host(Name),
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Makes a directory.
    MakeDirectory(PathBuf),
    /// Lets QEMU's user pass through a directory that an end between two calls has left closed.
    OpenDirectory(PathBuf),
    /// Defines a network.
    DefineNetwork(Box<Marked<NetworkSpec>>),
    /// Brings a network up.
    StartNetwork(Box<Marked<NetworkSpec>>),
    /// Puts the lab's mark on a bridge.
    MarkBridge(String),
    /// Removes a domain, for a host to be made anew; its disks stay.
    RemoveDomain(Box<Marked<DomainSpec>>),
    /// Makes a disk where none is.
    MakeDisk(DiskSpec),
    /// Discards what is on a disk, and makes it blank.
    BlankDisk(DiskSpec),
    /// Removes a disk of a host that the topology does not have any more.
    RemoveDisk(PathBuf),
    /// Makes a disk larger; what is on it stays.
    GrowDisk(DiskSpec),
    /// Makes a cloud-init seed.
    MakeSeed {
        /// Its file.
        path: PathBuf,
        /// Whether the guest that reads it has never booted.
        first: bool,
    },
    /// Defines a domain.
    DefineDomain(Box<Marked<DomainSpec>>),
    /// Starts a domain.
    StartDomain(Box<Marked<DomainSpec>>),
    /// Hands a running guest its new configuration.
    Configure(Box<Marked<DomainSpec>>),
    /// Waits until the guest answers.
    Await(Box<Marked<DomainSpec>>),
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its id, stable for the same work: `host/openstack1/start`.
    pub id: String,
    /// What it is about.
    pub subject: Subject,
    /// What it does.
    pub act: Act,
}

/// A change that is not made without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The host or network.
    pub thing: String,
    /// What differs, or what state it is in.
    pub why: String,
    /// The command that does it.
    pub cure: String,
}

/// What has to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What would have to be done and is not.
    pub blocked: Vec<Blocked>,
    /// What is worth knowing and needs nothing.
    pub notes: Vec<String>,
}

impl Step {
    pub(super) fn new(subject: Subject, verb: &str, act: Act) -> Self {
        let id = match &subject {
            Subject::Lab => format!("lab/{verb}"),
            Subject::Network(name) => format!("network/{name}/{verb}"),
            Subject::Host(name) => format!("host/{name}/{verb}"),
        };
        Self { id, subject, act }
    }

    /// Whether the step changes something, rather than waits.
    pub const fn changes(&self) -> bool {
        !matches!(self.act, Act::Await(_))
    }

    /// What would take the step back; nothing where there is nothing to take back.
    pub fn inverse(&self) -> Option<String> {
        Some(match &self.act {
            Act::MakeDirectory(path) => format!("remove {}", path.display()),
            Act::DefineNetwork(network) => format!("undefine network {}", network.spec.name),
            Act::StartNetwork(network) => format!("stop network {}", network.spec.name),
            Act::MarkBridge(bridge) => format!("clear the mark on {bridge}"),
            Act::MakeDisk(disk) => format!("remove {}", disk.path.display()),
            Act::OpenDirectory(_) | Act::BlankDisk(_) | Act::RemoveDisk(_) | Act::GrowDisk(_) => {
                return None;
            }
            Act::MakeSeed { path, .. } => format!("remove {}", path.display()),
            Act::DefineDomain(domain) => format!("undefine domain {}", domain.spec.name),
            Act::StartDomain(domain) => format!("destroy domain {}", domain.spec.name),
            Act::Configure(_) => "hand over the configuration before".into(),
            Act::RemoveDomain(_) | Act::Await(_) => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.act {
            Act::MakeDirectory(path) => write!(formatter, "make directory {}", path.display()),
            Act::OpenDirectory(path) => {
                write!(formatter, "let QEMU's user pass through {}", path.display())
            }
            Act::DefineNetwork(network) => {
                let spec = &network.spec;
                write!(
                    formatter,
                    "define network {} on {} with {}",
                    spec.name, spec.bridge, spec.cidr
                )
            }
            Act::StartNetwork(network) => write!(formatter, "start network {}", network.spec.name),
            Act::MarkBridge(bridge) => write!(formatter, "mark bridge {bridge}"),
            Act::RemoveDomain(domain) => write!(
                formatter,
                "remove domain {}; its disks stay",
                domain.spec.name
            ),
            Act::BlankDisk(disk) => write!(
                formatter,
                "discard what is on {}, and make it blank, of {}",
                disk.path.display(),
                disk.size
            ),
            Act::RemoveDisk(path) => write!(formatter, "remove disk {}", path.display()),
            Act::GrowDisk(disk) => {
                write!(
                    formatter,
                    "grow disk {} to {}",
                    disk.path.display(),
                    disk.size
                )
            }
            Act::MakeDisk(disk) => write!(
                formatter,
                "make disk {} of {}",
                disk.path.display(),
                disk.size
            ),
            Act::MakeSeed { path, .. } => write!(formatter, "make seed {}", path.display()),
            Act::DefineDomain(domain) => {
                let spec = &domain.spec;
                write!(
                    formatter,
                    "define domain {} with {} and {} vCPU",
                    spec.name, spec.memory, spec.vcpus
                )
            }
            Act::StartDomain(domain) => write!(formatter, "start domain {}", domain.spec.name),
            Act::Configure(domain) => {
                write!(formatter, "hand {} its new configuration", domain.spec.name)
            }
            Act::Await(domain) => write!(formatter, "wait until {} answers", domain.spec.name),
        }
    }
}

impl Step {
    /// The disk whose content the step discards.
    pub fn discards(&self) -> Option<&Path> {
        match &self.act {
            Act::BlankDisk(disk) => Some(&disk.path),
            Act::RemoveDisk(path) => Some(path),
            _ => None,
        }
    }
}

impl Plan {
    /// How many steps change something.
    pub fn changes(&self) -> usize {
        self.steps.iter().filter(|step| step.changes()).count()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step.inverse() {
                Some(inverse) => writeln!(formatter, "  {step}\n      undo: {inverse}")?,
                None => writeln!(formatter, "  {step}")?,
            }
        }
        for blocked in &self.blocked {
            writeln!(
                formatter,
                "  NOT DONE  {}: {}\n      {}",
                blocked.thing, blocked.why, blocked.cure
            )?;
        }
        for note in &self.notes {
            writeln!(formatter, "  note: {note}")?;
        }
        let changes = self.changes();
        write!(
            formatter,
            "{changes} change{}",
            if changes == 1 { "" } else { "s" }
        )
    }
}
