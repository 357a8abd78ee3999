//! Faults inside a host: its clock, files, processes and services.

pub(crate) mod inside;
mod load;
mod ran;
mod services;

use super::contract::faults;

faults! {
    clock::ClockStep,
    cpu_pressure::CpuPressure,
    file::FileChange,
    memory_pressure::MemoryPressure,
    process::ProcessSignal,
    service_run::ServiceRun,
    service_stop::ServiceStop,
}

pub(crate) use clock::{NAME as CLOCK_STEP, NEAR_US, before_a_pause, behind_us, settle};
pub(crate) use process::found as processes;
pub(crate) use ran::{Ran, start_instance};
