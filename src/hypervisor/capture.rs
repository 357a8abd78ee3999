//! Capturing a domain's state and bringing it back: [`Capture`].
//!
//! A driver captures device state and disks under a name of the caller's. Memory is either in a file of the host's, which
//! the caller copies while the domain stands still, or goes into the captured state as a stream.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Power;
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
