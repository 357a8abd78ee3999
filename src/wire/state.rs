//! What a guest says of itself. All of it is read from /proc at the moment of asking, but for Nova's records.

use serde::{Deserialize, Serialize};

/// A guest's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestState {
    /// The kernel's `boot_id`.
    pub boot_id: String,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// The guest's wall clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// Memory.
    pub memory: MemoryState,
    /// Configured services.
    pub services: Vec<ServiceState>,
    /// nova-compute's `reserved_host_memory_mb`, full-size, where the host computes.
    pub reserved_mib: Option<u64>,
    /// nova-compute's `resume_guests_state_on_host_boot`, where the host computes.
    #[serde(default)]
    pub resume: Option<bool>,
    /// Instances, as nova-compute records them.
    pub instances: Vec<InstanceState>,
    /// The last lines of nova-compute's log, oldest first.
    pub nova_log: Vec<String>,
}

/// From /proc/meminfo, /proc/vmstat and /proc/pressure/memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryState {
    /// `MemTotal`.
    pub total_kib: u64,
    /// `MemAvailable`.
    pub available_kib: u64,
    /// `oom_kill` of /proc/vmstat: processes killed since boot.
    pub oom_kill: u64,
    /// `full avg10` of /proc/pressure/memory in percent, where the kernel has PSI.
    pub psi_full_avg10: Option<f64>,
    /// `full total` of it since boot, in microseconds.
    #[serde(default)]
    pub psi_full_total_us: Option<u64>,
    /// `SwapTotal`.
    #[serde(default)]
    pub swap_total_kib: u64,
    /// `SwapFree`.
    #[serde(default)]
    pub swap_free_kib: u64,
    /// What was read last before each of the last kills of processes for want of memory.
    #[serde(default)]
    pub before_kills: Vec<MemoryReading>,
}

/// Memory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryReading {
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// What was read.
    pub memory: MemoryState,
    /// The first reading after the kill: its time in milliseconds since the kernel started, and `full total` of
    /// /proc/pressure/memory in microseconds.
    #[serde(default)]
    pub after_kill: Option<(u64, u64)>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Its id.
    pub pid: u32,
    /// `VmRSS` of /proc/PID/status.
    pub rss_kib: u64,
    /// /`proc/PID/oom_score_adj`.
    pub oom_score_adj: i16,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// Its process, where it runs.
    pub process: Option<ProcessState>,
    /// Whether it is meant to run.
    pub wanted: bool,
    /// Whether its memory is in place, its ports listen, and it is not stopped.
    pub healthy: bool,
}

/// Nova's `vm_state` of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VmState {
    /// Meant to run.
    Active,
    /// Stopped through the API, or recorded so after it stopped by itself.
    Stopped,
}

/// The status that Nova's API shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "host", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum NovaStatus {
    /// `vm_state` ACTIVE.
    Active,
    /// `vm_state` STOPPED.
    Shutoff,
}

impl std::fmt::Display for NovaStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Active => "ACTIVE",
            Self::Shutoff => "SHUTOFF",
        })
    }
}

/// An instance as nova-compute records it, with its process as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceState {
    /// Its name.
    pub name: String,
    /// Its flavor's memory, full-size MiB.
    pub flavor_mib: u64,
    /// The memory its process maps, MiB as run.
    pub memory_mib: u64,
    /// Nova's `vm_state`.
    pub vm_state: VmState,
    /// Its process, where one runs.
    pub process: Option<ProcessState>,
    /// The process id it had last.
    pub last_pid: Option<u32>,
    /// Whether touching of all its memory was asked for since its process started.
    pub touching: bool,
    /// Whether every page of it has been written.
    pub touched: bool,
}

impl InstanceState {
    /// Returns the status that Nova's API shows.
    pub const fn status(&self) -> NovaStatus {
        match self.vm_state {
            VmState::Active => NovaStatus::Active,
            VmState::Stopped => NovaStatus::Shutoff,
        }
    }
}

/// One record of the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLine {
    /// The record's sequence number in /dev/kmsg.
    pub sequence: u64,
    /// Microseconds since the kernel started.
    pub at_us: u64,
    /// The text.
    pub text: String,
}
