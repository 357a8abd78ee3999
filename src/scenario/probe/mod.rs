//! What can be looked at. One file a probe, and a line in [`ALL`].
//!
//! A probe is told the state before the first step ([`Probe::begin`]) and then asked again and again. It fires once what
//! it looks for has happened; what it saw is its evidence, with the source that it comes from.

mod clock_skew;
mod contract;
mod domain_state;
mod exec;
mod file;
mod forward_rejects;
mod http;
mod instance_state;
mod kernel_log;
mod link_counters;
mod memory;
mod oom_report;
mod oom_victim;
mod packet_capture;
mod packets;
mod placement;
mod process;
mod scheduler_refused;
mod service_state;
mod tcp;
mod victim_status;
mod vm_counter;

pub use contract::{Finding, Probe, Seen};

use super::error::ScenarioProblem;
use crate::diagnostics::{Key, Keys, Node, Reader, keys_of, nearest};

type ParseFn = fn(&Node, &mut Reader) -> Option<Box<dyn Probe>>;

/// The probes.
const ALL: &[(&str, ParseFn)] = &[
    (clock_skew::NAME, clock_skew::parse),
    (kernel_log::CONSOLE, kernel_log::parse_console),
    (exec::NAME, exec::parse),
    (file::NAME, file::parse),
    (forward_rejects::NAME, forward_rejects::parse),
    (http::NAME, http::parse),
    (link_counters::NAME, link_counters::parse),
    (memory::NAME, memory::parse),
    (process::NAME, process::parse),
    (domain_state::NAME, domain_state::parse),
    (instance_state::NAME, instance_state::parse),
    (kernel_log::NAME, kernel_log::parse),
    (oom_victim::NAME, oom_victim::parse),
    (packet_capture::NAME, packet_capture::parse),
    (packets::NAME, packets::parse),
    (placement::NAME, placement::parse),
    (scheduler_refused::NAME, scheduler_refused::parse),
    (service_state::NAME, service_state::parse),
    (tcp::NAME, tcp::parse),
    (victim_status::NAME, victim_status::parse),
    (vm_counter::NAME, vm_counter::parse),
];

/// Whether a probe tells what came of a step.
pub(super) fn is_of_steps(probe: &str) -> bool {
    probe == scheduler_refused::NAME
}

/// The arguments of all probes, by name.
pub(super) fn arguments() -> Vec<(&'static str, Keys)> {
    let of = |parse: &ParseFn| keys_of(|node, reader| drop(parse(node, reader)));
    ALL.iter().map(|(name, parse)| (*name, of(parse))).collect()
}

/// Reads a probe from a file.
pub(super) fn parse(key: &Key, arguments: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    if let Some((_, parse)) = ALL.iter().find(|(name, _)| *name == key.text) {
        return parse(arguments, reader);
    }
    let known: Vec<&'static str> = ALL.iter().map(|(name, _)| *name).collect();
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
