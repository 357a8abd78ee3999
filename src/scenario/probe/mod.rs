//! What can be looked at. One file a probe, and a line in [`ALL`].
//!
//! A probe is told the state before the first step ([`Probe::begin`]) and then asked again and again. It fires once what
//! it looks for has happened; what it saw is its evidence, with the source that it comes from.

mod clock_skew;
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

use std::fmt::Debug;

use async_trait::async_trait;
use regex::Regex;

use super::error::ScenarioProblem;
use super::{ActionError, World};
use crate::diagnostics::{Fields, Key, Keys, Node, Reader, keys_of, nearest};
use crate::report::EvidenceDocument;

/// What has been seen when a probe is asked.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the scheduler refused, by step.
    pub refused: Vec<(String, String)>,
    /// The steps that have ended.
    pub done: Vec<String>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It fired.
    Fired(Vec<EvidenceDocument>),
    /// It has not fired so far.
    Quiet,
}

/// Something that can be looked at, with its arguments.
#[async_trait]
pub trait Probe: Debug + Send + Sync {
    /// Remembers where things stand before the first step.
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError>;

    /// Finds out whether it could begin; changes nothing.
    async fn check(&self, world: &World) -> Result<(), ActionError> {
        self.begin(world).await.map(drop)
    }

    /// Looks.
    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        seen: &Seen,
    ) -> Result<Finding, ActionError>;
}

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

/// Reads the key `matches`, where it is given; one that is no regular expression is told by the reader.
fn matches_of(fields: &mut Fields<'_>, reader: &mut Reader) -> Option<Regex> {
    let node = fields.optional("matches")?;
    reader.scalar(node, "regular expression")
}

fn evidence(source: impl Into<String>, text: impl Into<String>) -> EvidenceDocument {
    EvidenceDocument {
        source: source.into(),
        text: text.into(),
    }
}
