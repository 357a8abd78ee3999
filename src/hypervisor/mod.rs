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

pub use capture::{Anatomy, Capture, DiskState, DomainDisk, Memory};
pub use domain::{FilesOf, NicState, ObservedDomain, Power, PowerAction, Target, Throttle};
pub use error::HypervisorError;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::model::Mark;
use crate::model::spec::{DomainSpec, Marked, NetworkSpec, NicSpec};
use crate::units::{Mac, Mib};

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

/// A hypervisor.
#[async_trait]
pub trait Hypervisor: Capture {
    /// Tells what this is.
    async fn machine(&self) -> Result<Machine, HypervisorError>;

    /// Lists all networks, strangers' included.
    async fn networks(&self) -> Result<Vec<ObservedNetwork>, HypervisorError>;

    /// Defines a network, or changes the definition of one with the same mark.
    async fn define_network(&self, network: &Marked<NetworkSpec>) -> Result<(), HypervisorError>;

    /// Brings a network up; one that is up is as good.
    async fn start_network(&self, target: Target) -> Result<(), HypervisorError>;

    /// Takes a network down and removes its definition; one that is gone is as good.
    async fn remove_network(&self, target: Target) -> Result<(), HypervisorError>;

    /// Lists all domains, strangers' included.
    async fn domains(&self) -> Result<Vec<ObservedDomain>, HypervisorError>;

    /// Lists the files that all domains use, strangers' included.
    async fn files(&self) -> Result<Vec<FilesOf>, HypervisorError>;

    /// Defines a domain, or changes the definition of one with the same mark.
    async fn define_domain(&self, domain: &Marked<DomainSpec>) -> Result<(), HypervisorError>;

    /// Changes a domain's power; where it is so already, nothing happens.
    async fn power(&self, target: Target, action: PowerAction) -> Result<(), HypervisorError>;

    /// Tells whether a domain runs.
    async fn power_state(&self, target: Target) -> Result<Power, HypervisorError>;

    /// Tells whether a domain is started when this machine boots.
    async fn autostart(&self, target: Target) -> Result<bool, HypervisorError>;

    /// Sets whether a domain is started when this machine boots; its definition stays.
    async fn set_autostart(&self, target: Target, autostart: bool) -> Result<(), HypervisorError>;

    /// Tells how much memory the balloon leaves a running domain.
    async fn balloon(&self, target: Target) -> Result<Mib, HypervisorError>;

    /// Sets how much memory the balloon is to leave a running domain. The guest takes its time, and may not do it at all.
    async fn set_balloon(&self, target: Target, memory: Mib) -> Result<(), HypervisorError>;

    /// Tells what a running domain's disks may do; of disks that differ, the strictest.
    async fn throttle(&self, target: Target) -> Result<Throttle, HypervisorError>;

    /// Sets what a running domain's disks may do. It lasts as long as the process.
    async fn set_throttle(&self, target: Target, throttle: Throttle)
    -> Result<(), HypervisorError>;

    /// Tells how the interface with this Ethernet address, which is in the domain's definition, is now.
    async fn nic(&self, target: Target, mac: Mac) -> Result<NicState, HypervisorError>;

    /// Plugs a running domain's interface in or out, or changes its link. It lasts as long as the process.
    async fn set_nic(
        &self,
        target: Target,
        mac: Mac,
        state: NicState,
    ) -> Result<(), HypervisorError>;

    /// Plugs an interface into a running domain on top of those that it is defined with. It lasts as long as the process.
    async fn attach_nic(&self, target: Target, nic: &NicSpec) -> Result<(), HypervisorError>;

    /// Unplugs such an interface; one that is gone is as good, and one that the domain is defined with is left alone.
    async fn detach_nic(&self, target: Target, mac: Mac) -> Result<(), HypervisorError>;

    /// Takes a domain's power away and removes its definition; one that is gone is as good.
    async fn remove_domain(&self, target: Target) -> Result<(), HypervisorError>;

    /// Returns the path of a running domain's console terminal.
    async fn console(&self, target: Target) -> Result<PathBuf, HypervisorError>;

    /// Sends one JSON command to QEMU's guest agent and returns its answer.
    async fn agent(
        &self,
        target: Target,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HypervisorError>;
}
