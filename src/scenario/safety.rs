//! What keeps a run from doing too much: which hosts it may act on, how many of them, how long it may take, and when it stops.
//!
//! ```yaml
//! safety:
//!   baseline: preferred
//!   budget: 25m                                # steps and observing; what is undone is undone however long it takes
//!   allow: [openstack1, openstack2]            # only these are acted on
//!   protect: [openstack0]                      # these never are
//!   most-hosts: 1                              # at most so many are
//!   stop: [{probe: keystone, failures: 6}]     # so many misses in a row of a continuous probe, and all is put back
//! ```

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use super::arguments::duration;
use super::error::ScenarioProblem;
use crate::diagnostics::{Node, Reader, Span};
use crate::units::Name;

/// So many misses in a row where the file does not say.
const FAILURES: NonZeroU64 = NonZeroU64::MIN.saturating_add(2);

/// The hosts of a variant: those that its steps act on, and those that `allow` and `protect` name, which have to be there.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    pub(super) targets: Vec<String>,
    pub(super) allow: Option<Vec<String>>,
    pub(super) protect: Vec<String>,
}

/// What a file says of safety, variables not filled in.
#[derive(Clone, Debug)]
pub(super) struct Safety {
    pub(super) baseline: Policy,
    pub(super) budget: Duration,
    allow: Option<Node>,
    protect: Option<Node>,
    pub(super) most_hosts: Option<usize>,
    stop: Vec<Node>,
}

impl Default for Safety {
    fn default() -> Self {
        Self {
            baseline: Policy::default(),
            budget: Duration::from_secs(1500),
            allow: None,
            protect: None,
            most_hosts: None,
            stop: Vec::new(),
        }
    }
}

/// When a run stops, and everything is put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The probe that looks all the time.
    pub probe: String,
    /// After so many misses in a row.
    pub failures: u64,
}

/// Reads `safety`.
pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> Safety {
    let mut safety = Safety::default();
    let Some(mut fields) = node.and_then(|node| reader.fields(node, "safety")) else {
        return safety;
    };
    if let Some(node) = fields.optional("baseline") {
        let found = reader.choice(node, "baseline", Policy::WORDS);
        safety.baseline = found.unwrap_or_default();
    }
    let budget = fields.optional("budget");
    safety.budget = duration(reader, budget, safety.budget);
    safety.allow = fields.optional("allow").cloned();
    safety.protect = fields.optional("protect").cloned();
    safety.most_hosts = fields
        .optional("most-hosts")
        .and_then(|node| reader.scalar(node, "number of hosts"));
    let stop = fields.optional("stop");
    safety.stop = stop
        .map(|node| reader.items(node).to_vec())
        .unwrap_or_default();
    fields.finish(reader);
    safety
}

/// Reads a list of hosts.
fn hosts(node: &Node, reader: &mut Reader) -> Vec<Name> {
    let items = reader.items(node).to_vec();
    let names = items
        .iter()
        .filter_map(|item| reader.scalar::<Name>(item, "host name"));
    names.collect()
}

impl Safety {
    /// Checks on which hosts a variant's steps act; returns them, each once, and those that are named.
    pub(super) fn targets(
        &self,
        acted_on: &[(String, Span)],
        filled: &mut dyn FnMut(&Node, &mut Reader) -> Node,
        reader: &mut Reader,
    ) -> Hosts {
        let mut list = |node: &Option<Node>, reader: &mut Reader| {
            let node = node.as_ref().map(|node| filled(node, reader));
            node.map(|node| hosts(&node, reader))
        };
        let allowed = list(&self.allow, reader);
        let protected = list(&self.protect, reader).unwrap_or_default();
        let mut targets = BTreeSet::new();
        for (host, span) in acted_on {
            let is = |name: &Name| name.as_str() == host;
            if protected.iter().any(is) {
                reader.wrong(ScenarioProblem::Protected { host: host.clone() }.at(*span));
            } else if allowed
                .as_ref()
                .is_some_and(|allowed| !allowed.iter().any(is))
            {
                reader.wrong(ScenarioProblem::NotAllowed { host: host.clone() }.at(*span));
            }
            let first = targets.insert(host.clone());
            if let Some(most) = self.most_hosts
                && first
                && targets.len() == most + 1
            {
                reader.wrong(ScenarioProblem::TooManyHosts { most }.at(*span));
            }
        }
        let texts = |names: Vec<Name>| names.iter().map(Name::to_string).collect();
        Hosts {
            targets: targets.into_iter().collect(),
            allow: allowed.map(texts),
            protect: texts(protected),
        }
    }

    /// Reads the stop conditions, with where each names its probe.
    pub(super) fn stops(
        &self,
        filled: &mut dyn FnMut(&Node, &mut Reader) -> Node,
        reader: &mut Reader,
    ) -> Vec<(Stop, Span)> {
        let mut stops = Vec::new();
        for node in &self.stop {
            let node = filled(node, reader);
            let Some(mut fields) = reader.fields(&node, "the stop condition") else {
                continue;
            };
            let named = fields.required("probe", reader);
            let probe: Option<String> = named.and_then(|node| reader.scalar(node, "probe"));
            let failures = fields.optional("failures");
            let failures = failures.map_or(Some(FAILURES), |node| reader.scalar(node, "count"));
            fields.finish(reader);
            if let (Some(named), Some(probe), Some(failures)) = (named, probe, failures) {
                let failures = failures.get();
                stops.push((Stop { probe, failures }, named.span));
            }
        }
        stops
    }
}

/// Whether a run takes a baseline before its first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It does where it can.
    #[default]
    Preferred,
    /// It does, or does not begin.
    Required,
    /// It does not.
    None,
}

impl Policy {
    /// The words of scenario files.
    pub(super) const WORDS: &'static [(&'static str, Self)] = &[
        ("preferred", Self::Preferred),
        ("required", Self::Required),
        ("none", Self::None),
    ];

    /// The word.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Required => "required",
            Self::None => "none",
        }
    }
}
