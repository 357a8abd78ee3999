//! Capturing a domain's state and bringing it back: [`Capture`].
//!
//! A driver captures device state and disks under a name of the caller's. Memory is either in a file of the host's, which
//! the caller copies while the domain stands still, or goes into the captured state as a stream.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{HypervisorError, Power, Target};
use crate::storage::Guarded;
use crate::units::Mac;

/// How a domain's memory is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// The caller copies the file that it is in.
    File,
    /// It goes into the captured state.
    Stream,
    /// There is none: the domain is off.
    None,
}

/// A disk of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainDisk {
    /// Its name in the guest, `vda`.
    pub target: String,
    /// Its file; nothing where it is not in a file.
    pub path: Option<PathBuf>,
    /// `qcow2`, `raw` or another.
    pub format: String,
    /// Whether the guest can only read it.
    pub read_only: bool,
}

impl DomainDisk {
    /// Whether captured state can be kept in its file.
    pub fn holds_state(&self) -> bool {
        self.format == "qcow2" && !self.read_only
    }
}

/// What a domain consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anatomy {
    /// Whether it runs.
    pub power: Power,
    /// Whether there is a process that holds its memory and devices.
    pub process: bool,
    /// Whether the hypervisor holds its memory in a file, with which it would go on.
    pub saved: bool,
    /// Its definition, as it would be started from.
    pub definition: String,
    /// Its devices as they are in the process, without what changes from start to start.
    pub devices: Option<String>,
    /// The machine type, `pc-q35-7.2`.
    pub machine: String,
    /// The emulator and version of its process, `QEMU 7.2.22`, where it has one that answers.
    pub emulator: Option<String>,
    /// The file that its memory is in, where it is in one that the process shares.
    pub ram_file: Option<Guarded>,
    /// Its disks.
    pub disks: Vec<DomainDisk>,
    /// This machine's ends of its interfaces.
    pub taps: Vec<(Mac, String)>,
    /// The file of the firmware's variables.
    pub nvram: Option<PathBuf>,
    /// What keeps it from being captured, in words.
    pub obstacles: Vec<String>,
}

/// A captured disk as it is in its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// The disk's file.
    pub path: PathBuf,
    /// SHA-256 of the device state that is in it.
    pub state_sha256: String,
    /// Bytes of that device state; 0 where it holds none.
    pub state_bytes: u64,
    /// SHA-256 of the disk's captured content, where it was read.
    pub content_sha256: Option<String>,
    /// Bytes of that content.
    pub content_bytes: u64,
}

/// What capturing needs of a hypervisor.
#[async_trait]
pub trait Capture: Send + Sync {
    /// Tells what a domain consists of.
    async fn anatomy(&self, target: Target) -> Result<Anatomy, HypervisorError>;

    /// Tells which emulator and version a definition would be started with, `QEMU 7.2.22`.
    async fn emulator(&self, definition: &str) -> Result<String, HypervisorError>;

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

    /// Reads `state` from the disks' files; with `content` all of it, else only the device state. A disk without it gives
    /// an error in words.
    async fn examine(
        &self,
        disks: &[PathBuf],
        state: &str,
        content: bool,
    ) -> Result<Vec<Result<DiskState, String>>, HypervisorError>;
}
