//! What can be looked at. One file a probe, and a line in the list.
//!
//! A probe reads the state before the first step and is then asked again and again. It fires once what
//! it looks for has happened; what it saw is its evidence, with the source that it comes from.

mod contract;
mod oom_report;
mod prelude;
mod serial_log;

pub use contract::{AnyProbe, Finding, Reference, Seen};

use contract::{Probe, probes};

use schemars::SchemaGenerator;

use super::FaultError;
use super::arguments::Arguments;
use super::error::ScenarioProblem;
use crate::diagnostics::{Key, Node, Reader, nearest};

probes! {
    clock_skew::ClockSkew,
    console::Console,
    domain_state::DomainState,
    exec::Exec,
    file::File,
    forward_rejects::ForwardRejects,
    http::Http,
    instance_state::InstanceStatus,
    kernel_log::KernelLog,
    link_counters::LinkCounters,
    memory::Memory,
    oom_victim::OomVictim,
    packet_capture::PacketCapture,
    packets::Packets,
    placement::Placement,
    process::Process,
    scheduler_refused::SchedulerRefused,
    service_state::ServiceState,
    tcp::Tcp,
    victim_status::VictimStatus,
    vm_counter::VmCounter,
}

/// Whether a probe tells what came of a step.
pub(super) fn is_of_steps(probe: &str) -> bool {
    probe == scheduler_refused::SchedulerRefused::NAME
}

/// What each probe's arguments are, sorted by its name.
pub(super) fn arguments(generator: &mut SchemaGenerator) -> Vec<Arguments> {
    let of = |kind: &contract::Kind| Arguments {
        name: kind.name,
        keys: (kind.keys)(),
        schema: (kind.schema)(generator),
    };
    let mut all: Vec<Arguments> = ALL.iter().map(of).collect();
    all.sort_unstable_by_key(|one| one.name);
    all
}

/// Reads a probe from a file.
pub(super) fn parse(key: &Key, arguments: &Node, reader: &mut Reader) -> Option<AnyProbe> {
    if let Some(kind) = ALL.iter().find(|kind| kind.name == key.text) {
        return (kind.read)(arguments, reader);
    }
    let known: Vec<&'static str> = ALL.iter().map(|kind| kind.name).collect();
    let near = nearest(&key.text, known.iter().copied());
    reader.wrong(
        ScenarioProblem::UnknownProbe {
            name: key.text.clone(),
            near,
            known,
        }
        .at(key.span),
    );
    None
}

/// A probe by its name, with its arguments as a scenario file has them.
pub fn from_value(name: &str, arguments: serde_json::Value) -> Result<AnyProbe, FaultError> {
    let none = || FaultError::Target(format!("there is no probe {name}"));
    let kind = ALL.iter().find(|kind| kind.name == name).ok_or_else(none)?;
    (kind.from_value)(arguments)
}
