//! How a scenario file writes a probe.
//!
//! ```yaml
//! - {id: down, PROBE: {..}}                        # looks from the first step on, until it fires or the undo begins
//! - {id: lost, PROBE: {..}, since: cut, times: 3}  # after a step, and it has to hold three times in a row
//! - {id: gone, PROBE: {..}, for: 20s}              # and at each look for so long, however many there are
//! - {id: back, PROBE: {..}, at: after}             # or before, edges, continuous
//! - {id: up, PROBE: {..}, at: continuous, misses: 2, retries: 1}
//! ```

use std::time::Duration;

use super::arguments::duration;
use super::error::ScenarioProblem;
use super::probe::{self, AnyProbe};
use crate::diagnostics::{FormatError, Key, Node, Reader, Span, Value};

/// How often a probe may look again at once at the most.
const MOST_RETRIES: u32 = 100;

/// What is taken for a duration that could not be read.
const NO_TIME: Duration = Duration::from_secs(1);

/// A probe with its variables filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedProbe {
    /// Its id.
    pub id: String,
    /// What it looks at.
    pub probe: AnyProbe,
    /// When it looks.
    pub at: Phase,
    /// The step after which it looks; from the first on where there is none.
    pub since: Option<String>,
    /// How often in a row it has to hold.
    pub times: u32,
    /// For how long it has to hold, at each look.
    pub lasts: Duration,
    /// How often it looks again at once where it could not.
    pub retries: u32,
    /// How many looks in a row may miss where it is to hold always.
    pub misses: u64,
}

/// When a probe looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Once, before the first step.
    Before,
    /// From the first step until the undo begins.
    #[default]
    During,
    /// Once everything has recovered.
    After,
    /// Before the first step, and again once everything has recovered: it fires when it did both times.
    Edges,
    /// All the time, from before the first step until everything has recovered.
    Continuous,
}

impl Phase {
    pub(super) const WORDS: &'static [(&'static str, Self)] = &[
        ("before", Self::Before),
        ("during", Self::During),
        ("after", Self::After),
        ("edges", Self::Edges),
        ("continuous", Self::Continuous),
    ];
}

/// A step that a probe names.
pub(super) struct NamedStep {
    pub(super) probe: String,
    pub(super) step: String,
    pub(super) span: Span,
}

/// The text of one entry of a map, where it has it.
fn entry_of<'n>(node: &'n Node, key: &str) -> Option<(&'n str, Span)> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let (_, found) = entries.iter().find(|(found, _)| found.text == key)?;
    match &found.value {
        Value::Text(text) | Value::Number(text) => Some((text, found.span)),
        _ => None,
    }
}

/// The id that a probe or a step gives itself.
pub(super) fn id_of(node: &Node) -> Option<&str> {
    Some(entry_of(node, "id")?.0)
}

/// Refuses keys that mean nothing to a probe that looks then: to one that looks all the time, to any other, and to one that
/// looks at moments.
fn idle_keys(
    at: Phase,
    [not_all_the_time, all_the_time, over_time]: [Option<&Key>; 3],
    reader: &mut Reader,
) {
    let by_step = match at {
        Phase::Continuous => (
            not_all_the_time,
            "a probe that looks all the time has no step",
        ),
        _ => (
            all_the_time,
            "only a probe that looks all the time may miss",
        ),
    };
    let by_time = (
        over_time.filter(|_| !matches!(at, Phase::During | Phase::Continuous)),
        "only a probe that looks during the steps, or all the time, sees how long something lasts",
    );
    for (key, why) in [by_step, by_time] {
        if let Some(key) = key {
            reader.idle_key(key, &why);
        }
    }
}

/// A probe while its entries are read.
struct Draft<'n> {
    id: Option<String>,
    /// Where mistakes in it are shown: at its id.
    span: Span,
    probe: Option<AnyProbe>,
    /// How many probes there are: it is to be one.
    count: usize,
    at: Phase,
    since: Option<String>,
    times: u32,
    lasts: Duration,
    retries: u32,
    misses: u64,
    /// The steps that it names.
    steps: Vec<(String, Span)>,
    /// Keys that mean nothing to one that looks all the time; to any other; and to one that looks at moments.
    not_all_the_time: Option<&'n Key>,
    all_the_time: Option<&'n Key>,
    over_time: Option<&'n Key>,
}

impl<'n> Draft<'n> {
    fn new(node: &Node) -> Self {
        Self {
            id: None,
            span: node.span,
            probe: None,
            count: 0,
            at: Phase::default(),
            since: None,
            times: 1,
            lasts: Duration::ZERO,
            retries: 0,
            misses: 0,
            steps: Vec::new(),
            not_all_the_time: None,
            all_the_time: None,
            over_time: None,
        }
    }

    fn take(&mut self, key: &'n Key, node: &Node, reader: &mut Reader) {
        match key.text.as_str() {
            "times" => {
                let found = reader.scalar::<std::num::NonZeroU32>(node, "count");
                self.times = found.map_or(1, std::num::NonZeroU32::get);
            }
            "for" => {
                self.lasts = duration(reader, Some(node), NO_TIME);
                if self.lasts.is_zero() {
                    let why = "any look that holds lasts for so long";
                    reader.bad_value(node, &"0s", "duration", &why);
                }
                self.over_time = Some(key);
            }
            "retries" => {
                self.retries = reader.scalar(node, "count").unwrap_or_default();
                if self.retries > MOST_RETRIES {
                    let why = format!("it is at most {MOST_RETRIES}");
                    reader.bad_value(node, &self.retries, "count", &why);
                }
            }
            "misses" => {
                self.misses = reader.scalar(node, "count").unwrap_or_default();
                self.all_the_time = Some(key);
            }
            "id" => {
                self.id = reader.scalar(node, "id");
                self.span = node.span;
            }
            "since" => {
                self.since = reader.scalar(node, "step");
                self.steps
                    .extend(self.since.clone().map(|step| (step, node.span)));
                self.not_all_the_time = Some(key);
            }
            "at" => {
                let at = reader.choice(node, "phase", Phase::WORDS);
                self.at = at.unwrap_or_default();
            }
            _ => {
                self.count += 1;
                self.probe = probe::parse(key, node, reader);
                if probe::is_of_steps(&key.text) {
                    self.not_all_the_time = Some(key);
                    let step = entry_of(node, "step");
                    self.steps
                        .extend(step.map(|(step, span)| (step.to_owned(), span)));
                }
            }
        }
    }
}

/// Reads a probe, and adds the steps that it names.
pub(super) fn probe(
    node: &Node,
    named_steps: &mut Vec<NamedStep>,
    reader: &mut Reader,
) -> Option<(ResolvedProbe, Span)> {
    let mut draft = Draft::new(node);
    for (key, node) in reader.entries(node, &"the probe")? {
        draft.take(key, node, reader);
    }
    let idle = [draft.not_all_the_time, draft.all_the_time, draft.over_time];
    idle_keys(draft.at, idle, reader);
    if draft.count != 1 {
        let count = draft.count;
        reader.wrong(ScenarioProblem::OneProbe { count }.at(node.span));
    }
    if draft.id.is_none() {
        let missing = FormatError::MissingKey {
            key: "id",
            place: "the probe".into(),
        };
        reader.wrong(missing.at(node.span));
    }
    let (id, probe) = (draft.id?, draft.probe?);
    let of_probe = |(step, span)| NamedStep {
        probe: String::clone(&id),
        step,
        span,
    };
    named_steps.extend(draft.steps.into_iter().map(of_probe));
    let resolved = ResolvedProbe {
        id,
        probe,
        at: draft.at,
        since: draft.since,
        times: draft.times,
        lasts: draft.lasts,
        retries: draft.retries,
        misses: draft.misses,
    };
    Some((resolved, draft.span))
}
