//! What can be asked of a hypervisor, seam by seam.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Anatomy, DiskState, FilesOf, HypervisorError, Machine, Memory, NicState, ObservedDomain,
    ObservedNetwork, Power, PowerAction, Target, Throttle,
};
use crate::model::spec::{DomainSpec, Marked, NetworkSpec, NicSpec};
use crate::units::{Mac, Mib};

/// A hypervisor, by what can be asked of it.
#[derive(Clone)]
pub struct Hypervisor {
    /// What there is.
    pub inventory: Arc<dyn Inventory>,
    /// Networks.
    pub network: Arc<dyn Networks>,
    /// Domains and their power.
    pub domain: Arc<dyn Domains>,
    /// The devices of running domains.
    pub devices: Arc<dyn Devices>,
    /// What domains and captured states consist of.
    pub inspection: Arc<dyn Inspection>,
    /// Capturing.
    pub capture: Arc<dyn Capture>,
}

impl Hypervisor {
    /// One driver that does all of it.
    pub fn of<H: Inventory + Networks + Domains + Devices + Inspection + Capture + 'static>(
        driver: H,
    ) -> Self {
        let driver = Arc::new(driver);
        Self {
            inventory: driver.clone(),
            network: driver.clone(),
            domain: driver.clone(),
            devices: driver.clone(),
            inspection: driver.clone(),
            capture: driver,
        }
    }
}

/// What there is on a hypervisor, strangers' things included.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Tells what this is.
    async fn machine(&self) -> Result<Machine, HypervisorError>;

    /// Lists all networks, strangers' included.
    async fn networks(&self) -> Result<Vec<ObservedNetwork>, HypervisorError>;

    /// Lists all domains, strangers' included.
    async fn domains(&self) -> Result<Vec<ObservedDomain>, HypervisorError>;

    /// Lists the files that all domains use, strangers' included.
    async fn files(&self) -> Result<Vec<FilesOf>, HypervisorError>;
}

/// Networks, by their marks.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Defines a network, or changes the definition of one with the same mark.
    async fn define_network(&self, network: &Marked<NetworkSpec>) -> Result<(), HypervisorError>;

    /// Brings a network up; one that is up is as good.
    async fn start_network(&self, target: Target) -> Result<(), HypervisorError>;

    /// Takes a network down and removes its definition; one that is gone is as good.
    async fn remove_network(&self, target: Target) -> Result<(), HypervisorError>;
}

/// Domains and their power, by their marks.
#[async_trait]
pub trait Domains: Send + Sync {
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

/// The devices of running domains.
#[async_trait]
pub trait Devices: Send + Sync {
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
}

/// What domains and their captured states consist of.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// Tells what a domain consists of.
    async fn anatomy(&self, target: Target) -> Result<Anatomy, HypervisorError>;

    /// Tells which emulator and version a definition would be started with, `QEMU 7.2.22`.
    async fn emulator(&self, definition: &str) -> Result<String, HypervisorError>;

    /// Reads `state` from the disks' files; with `content` all of it, else only the device state. A disk without it gives
    /// an error in words.
    async fn examine(
        &self,
        disks: &[PathBuf],
        state: &str,
        content: bool,
    ) -> Result<Vec<Result<DiskState, String>>, HypervisorError>;
}

/// What capturing takes.
#[async_trait]
pub trait Capture: Send + Sync {
    /// Starts a domain that is off, and leaves its CPUs stopped.
    async fn start_paused(&self, target: Target) -> Result<(), HypervisorError>;

    /// Replaces a domain's definition by one that it had before.
    async fn redefine(&self, target: Target, definition: &str) -> Result<(), HypervisorError>;

    /// Makes the next capture short, while the domain runs: writes memory that is in a file back to it, splits its folios, and
    /// gives the disks a place for device state that no captured state shares. Where memory is in no file nothing is done.
    async fn write_back(&self, target: Target) -> Result<(), HypervisorError>;

    /// Splits large folios of the file that a domain's memory is in, so that what the guest changes from now on is written
    /// in pages. Those that are dirty stay: it is for a domain that stands still, after its file was flushed. It saves
    /// writing and changes nothing, so what cannot be split is no error.
    async fn split_folios(&self, target: Target, file: &Path) -> Result<(), HypervisorError>;

    /// Captures a domain that stands still under `state`.
    async fn capture(
        &self,
        target: Target,
        state: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError>;

    /// Puts a domain that stands still back to `state`; its CPUs stay stopped. Where memory is in a file, the caller has
    /// put that back before.
    async fn load(
        &self,
        target: Target,
        state: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError>;

    /// Makes a stopped domain count as crashed, as its guest's panic would.
    async fn mark_crashed(&self, target: Target) -> Result<(), HypervisorError>;

    /// Removes `state`, and puts settings back that a capture which was broken off has left; what is not there is as good.
    async fn discard(&self, target: Target, state: &str) -> Result<(), HypervisorError>;
}
