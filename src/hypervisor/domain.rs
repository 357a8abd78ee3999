//! A domain: what is seen of it, and what can be asked of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::Mark;

/// Whether a domain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It runs.
    Running,
    /// It is suspended.
    Paused,
    /// It is off.
    ShutOff,
    /// Its guest panicked, or its process died.
    Crashed,
}

/// A domain as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedDomain {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Whether it runs.
    pub power: Power,
    /// Whether QEMU has paused it because a disk could not be written: there is no space for it, mostly.
    pub out_of_space: bool,
    /// Whether its definition outlasts its process.
    pub persistent: bool,
    /// Whose it is. A stranger's domain has no mark.
    pub mark: Option<Mark>,
    /// A mark that it carries and that is another thing's: it is a copy of a lab's domain, and a stranger's.
    pub foreign_mark: Option<Mark>,
    /// The files that its definition has for the disks that it can write to, in order.
    pub disks: Vec<PathBuf>,
}

/// The files that a domain uses, by its definition and by its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesOf {
    /// The domain's name.
    pub domain: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Every path that libvirt names for it: disks and what is below them, kernels, sockets, logs.
    pub files: Vec<PathBuf>,
}

/// A thing of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The thing.
    pub uuid: Uuid,
    /// The lab whose mark it has to carry.
    pub lab: Uuid,
}

/// What can be done to a domain's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// Starts it.
    Start,
    /// Presses its power button.
    Shutdown,
    /// Takes its power away.
    Destroy,
    /// Kills its QEMU, as the OOM killer of this machine would.
    Kill,
    /// Presses its reset button.
    Reset,
    /// Stops its CPUs.
    Suspend,
    /// Lets its CPUs go on.
    Resume,
}

/// What a domain's disks may do at most, each of them; 0 is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Bytes a second.
    pub bytes: u64,
    /// Operations a second.
    pub operations: u64,
}

/// An interface of a running domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicState {
    /// It is plugged in, and its link is up.
    Up,
    /// It is plugged in, and its link is down.
    Down,
    /// It is not plugged in: the guest has no such device.
    Out,
}
