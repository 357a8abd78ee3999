//! Steps of a scenario file. A step does one of these:
//!
//! ```yaml
//! - {id: cut, do: {ACTION: {..}}, within: 5m, for: 30s}   # an action; with `for`, it is put back after that time
//! - {id: dead, wait: PROBE, within: 2m}                   # goes on when the probe has fired
//! - {id: calm, pause: 10s}
//! - {id: kept, baseline: post-deploy, within: 5m}        # takes one with that name's gates, once they hold; gone with the run
//! - {id: heal, undo: cut}                                 # puts an earlier step back here, and not at the end
//! - {id: both, together: [{id: a, do: ..}, {id: b, do: ..}]}
//! - {id: long, do: {ACTION: {..}}, background: true}      # the next step does not wait for it; the last look does
//! ```
//!
//! With `only: [VARIANT, ..]` it is a step of those variants alone.

use std::time::Duration;

use super::arguments::duration;
use super::error::ScenarioProblem;
use super::fault::{self, AnyFault};
use super::probe_entry::id_of;
use crate::diagnostics::{Fields, Node, Reader, Span, Value, nearest};
use crate::units::Name;

/// What a step may take where the file says nothing.
const WITHIN: Duration = Duration::from_secs(300);

/// A step with its variables filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedStep {
    /// Its id.
    pub id: String,
    /// What it does.
    pub work: Work,
    /// How long that may take.
    pub within: Duration,
    /// Whether the next step does not wait for it.
    pub background: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Acts; put back after a time, where one is given, and else after the last step.
    Act(AnyFault, Option<Duration>),
    /// Waits until a probe has fired.
    Wait(String),
    /// Lets time pass.
    Pause(Duration),
    /// Puts an earlier step back.
    Undo(String),
    /// Takes a baseline with the gates that the topology has for this name.
    Baseline(String),
    /// Acts side by side.
    Together(Vec<ResolvedStep>),
}

impl ResolvedStep {
    /// What it is about to do, for people.
    pub fn describe(&self) -> String {
        let what = self.what();
        if self.background {
            return format!("{what}, in the background");
        }
        what
    }

    fn what(&self) -> String {
        match &self.work {
            Work::Act(action, None) => action.describe(),
            Work::Act(action, Some(lasts)) => format!("{}, for {lasts:?}", action.describe()),
            Work::Wait(probe) => format!("wait until {probe} fires"),
            Work::Pause(time) => format!("let {time:?} pass"),
            Work::Undo(step) => format!("put {step} back"),
            Work::Baseline(name) => format!("take a baseline once the gates of {name} hold"),
            Work::Together(steps) => {
                let steps: Vec<String> = steps.iter().map(Self::describe).collect();
                format!("side by side: {}", steps.join("; "))
            }
        }
    }

    /// How long what it does lasts, where it is put back after a time.
    pub(super) const fn lasts(&self) -> Option<Duration> {
        match &self.work {
            Work::Act(_, lasts) => *lasts,
            _ => None,
        }
    }

    /// Its own id, and those of the steps in it.
    pub(super) fn ids(&self) -> Vec<&str> {
        let inner = match &self.work {
            Work::Together(steps) => steps.iter().map(|step| step.id.as_str()).collect(),
            _ => Vec::new(),
        };
        [vec![self.id.as_str()], inner].concat()
    }

    /// The actions in it, with the ids of their steps.
    pub fn actions(&self) -> Vec<(&str, &AnyFault)> {
        match &self.work {
            Work::Act(action, _) => vec![(self.id.as_str(), action)],
            Work::Together(steps) => steps.iter().flat_map(Self::actions).collect(),
            Work::Wait(_) | Work::Pause(_) | Work::Undo(_) | Work::Baseline(_) => Vec::new(),
        }
    }
}

/// The ids in a step as it is written: its own, and those of the steps in it.
pub(super) fn ids_of(node: &Node) -> Vec<&str> {
    let mut ids: Vec<&str> = id_of(node).into_iter().collect();
    if let Value::Map(entries) = &node.value {
        let together = entries.iter().filter(|(key, _)| key.text == "together");
        for (_, inner) in together {
            if let Value::List(steps) = &inner.value {
                ids.extend(steps.iter().filter_map(id_of));
            }
        }
    }
    ids
}

/// Steps as they are read, for one variant.
pub(super) struct Steps<'s> {
    /// The variant.
    pub(super) variant: &'s str,
    /// The names of all variants.
    pub(super) variants: &'s [String],
    pub(super) read: Vec<ResolvedStep>,
    /// The hosts that steps of this variant act on.
    pub(super) acted_on: Vec<(String, Span)>,
    /// Names of probes that are waited for.
    pub(super) waited_for: Vec<(String, Span)>,
    /// The ids of steps that are of other variants alone.
    elsewhere: Vec<String>,
}

impl<'s> Steps<'s> {
    pub(super) const fn new(variant: &'s str, variants: &'s [String]) -> Self {
        Self {
            variant,
            variants,
            read: Vec::new(),
            acted_on: Vec::new(),
            waited_for: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Whether a step is one of this variant's.
    pub(super) fn has(&self, id: &str) -> bool {
        self.read.iter().any(|step| step.ids().contains(&id))
    }

    /// Reads the next step.
    pub(super) fn take(&mut self, node: &Node, reader: &mut Reader) {
        let Some((step, span, ours)) = self.step(node, reader) else {
            return;
        };
        let ids: Vec<&str> = self.read.iter().flat_map(ResolvedStep::ids).collect();
        let earlier =
            |id: &str| ids.contains(&id) || self.elsewhere.iter().any(|known| known == id);
        for id in step.ids() {
            if earlier(id) {
                reader.wrong(ScenarioProblem::DuplicateId { id: id.to_owned() }.at(span));
            }
        }
        if let (Work::Undo(id), true) = (&step.work, ours)
            && !earlier(id)
        {
            let near = nearest(id, ids.iter().copied()).map(str::to_owned);
            let id = id.clone();
            reader.wrong(ScenarioProblem::UnknownId { id, near }.at(span));
        }
        if ours {
            let actions = step.actions();
            let hosts = actions.iter().flat_map(|(_, action)| action.hosts());
            self.acted_on.extend(hosts.map(|host| (host, span)));
            self.read.push(step);
        } else {
            self.elsewhere
                .extend(step.ids().into_iter().map(str::to_owned));
        }
    }

    fn step(&mut self, node: &Node, reader: &mut Reader) -> Option<(ResolvedStep, Span, bool)> {
        let mut fields = reader.fields(node, "the step")?;
        let id_node = fields.required("id", reader);
        let id = id_node.and_then(|node| reader.scalar(node, "id"));
        let within_node = fields.optional("within");
        let within = duration(reader, within_node, WITHIN);
        let ours = self.is_ours(fields.optional("only"), reader);
        let behind = fields.optional("background");
        let background = behind
            .and_then(|node| reader.scalar(node, "true or false"))
            .unwrap_or_default();
        let lasts = fields.optional("for");
        let work = self.work(&mut fields, (node.span, lasts), ours, reader);
        fields.finish(reader);
        let (id, work) = (id?, work?);
        if background && !matches!(work, Work::Act(..)) {
            reader.wrong(ScenarioProblem::NotBackground.at(behind?.span));
        }
        let acts = matches!(work, Work::Act(..));
        let takes_time = acts || matches!(work, Work::Wait(_) | Work::Baseline(_));
        for (key, node, means) in [("for", lasts, acts), ("within", within_node, takes_time)] {
            if let (Some(node), false) = (node, means) {
                reader.wrong(ScenarioProblem::IdleKey { key }.at(node.span));
            }
        }
        let step = ResolvedStep {
            id,
            work,
            within,
            background,
        };
        Some((step, id_node?.span, ours))
    }

    fn is_ours(&self, node: Option<&Node>, reader: &mut Reader) -> bool {
        let Some(node) = node else { return true };
        let mut ours = false;
        for item in reader.items(node) {
            let Some(name) = reader.scalar::<String>(item, "variant") else {
                continue;
            };
            if !self.variants.contains(&name) {
                let near = nearest(&name, self.variants.iter().map(String::as_str));
                let near = near.map(str::to_owned);
                reader.wrong(ScenarioProblem::UnknownId { id: name, near }.at(item.span));
            } else if name == self.variant {
                ours = true;
            }
        }
        ours
    }

    /// Reads the one thing that a step does.
    fn work(
        &mut self,
        fields: &mut Fields<'_>,
        (span, lasts): (Span, Option<&Node>),
        ours: bool,
        reader: &mut Reader,
    ) -> Option<Work> {
        let (act, wait, pause) = (
            fields.optional("do"),
            fields.optional("wait"),
            fields.optional("pause"),
        );
        let (undo, together) = (fields.optional("undo"), fields.optional("together"));
        let baseline = fields.optional("baseline");
        let given = [act, wait, pause, undo, together, baseline];
        let count = given.iter().flatten().count();
        if count != 1 {
            reader.wrong(ScenarioProblem::OneWork { count }.at(span));
            return None;
        }
        if let Some(node) = act {
            let entries = reader.entries(node, &"the action")?;
            let [(key, arguments)] = entries.as_slice() else {
                let count = entries.len();
                reader.wrong(ScenarioProblem::OneAction { count }.at(node.span));
                return None;
            };
            let action = fault::parse(key, arguments, reader)?;
            let lasts = lasts.map(|node| duration(reader, Some(node), Duration::ZERO));
            return Some(Work::Act(action, lasts));
        }
        if let Some(node) = wait {
            let probe: String = reader.scalar(node, "probe")?;
            if ours {
                self.waited_for.push((probe.clone(), node.span));
            }
            return Some(Work::Wait(probe));
        }
        if let Some(node) = pause {
            return Some(Work::Pause(duration(reader, Some(node), Duration::ZERO)));
        }
        if let Some(node) = undo {
            return Some(Work::Undo(reader.scalar(node, "step")?));
        }
        if let Some(node) = baseline {
            let name: Name = reader.scalar(node, "baseline")?;
            return Some(Work::Baseline(name.to_string()));
        }
        let items = reader.items(together?).to_vec();
        let inner: Vec<_> = items
            .iter()
            .filter_map(|item| self.step(item, reader))
            .collect();
        if let Some((_, span, _)) = inner
            .iter()
            .find(|(step, _, _)| !matches!(step.work, Work::Act(..)))
        {
            reader.wrong(ScenarioProblem::NotTogether.at(*span));
        }
        // Those that are done together are waited for together.
        if let Some((_, span, _)) = inner.iter().find(|(step, _, _)| step.background) {
            reader.wrong(ScenarioProblem::NotBackground.at(*span));
        }
        let steps = inner
            .into_iter()
            .filter(|(_, _, ours)| *ours)
            .map(|(step, _, _)| step);
        Some(Work::Together(steps.collect()))
    }
}
