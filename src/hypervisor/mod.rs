//! The seam to the hypervisor: [`Hypervisor`], in terms of the model.
//!
//! A driver never acts on a thing that does not carry the mark of the lab it was told to act for: each call names the
//! lab, and the driver reads the mark again before it acts.

mod capture;
mod domain;
mod error;
#[expect(
    clippy::disallowed_methods,
    reason = "a driver: it waits for libvirt and QEMU"
)]
pub mod libvirt;
mod seams;

pub use capture::{Anatomy, DiskState, DomainDisk, Memory};
pub use domain::{FilesOf, NicState, ObservedDomain, Power, PowerAction, Target, Throttle};
pub use error::HypervisorError;
pub use seams::{Capture, Devices, Domains, Hypervisor, Inspection, Inventory, Networks};

use uuid::Uuid;

use crate::model::Mark;
use crate::units::Mib;

/// What a hypervisor says of itself and the machine it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// An identity that outlasts restarts of the hypervisor.
    pub uuid: Uuid,
    /// Why it is not the hypervisor of the machine that twin runs on; nothing where it is.
    pub elsewhere: Option<String>,
    /// The hypervisor and its version, `QEMU 7.2.22`.
    pub hypervisor: String,
    /// The library and its version, `libvirt 9.0.0`.
    pub library: String,
    /// CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory: Mib,
    /// Security drivers in force, `dac`, `apparmor`.
    pub security_models: Vec<String>,
}

/// A network as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedNetwork {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its bridge.
    pub bridge: Option<String>,
    /// The subnet that its definition claims.
    pub cidr: Option<crate::units::Cidr>,
    /// Whether it is up.
    pub active: bool,
    /// Whose it is. A stranger's network has no mark.
    pub mark: Option<Mark>,
    /// A mark that it carries and that is another thing's: it is a copy of a lab's network, and a stranger's.
    pub foreign_mark: Option<Mark>,
}
