//! Scenario files: `twin/scenario/v1`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::baseline::Policy;
use super::error::ScenarioProblem;
use super::probe::Probe;
use super::step::{ResolvedStep, Steps};
use crate::diagnostics::{
    Fields, Node, Problem, Reader, Source, Span, Value, nearest, parse as parse_yaml,
};
use crate::units::Name;

/// What is expected of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It fires.
    Fires,
    /// It does not.
    Never,
}

impl Expect {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fires => "fires",
            Self::Never => "never",
        }
    }
}

/// A scenario as written, variables not filled in.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: Name,
    /// Its title.
    pub title: String,
    /// The decision it replays.
    pub incident: Option<String>,
    /// Its story.
    pub about: String,
    /// Its variants, in the file's order.
    pub variants: Vec<Variant>,
    /// Whether a baseline is taken before the first step.
    pub baseline: Policy,
    /// What a variant may take at the most.
    pub budget: Duration,
    /// How long services may take to be healthy before the first step.
    pub steady_within: Duration,
    /// How long probes are watched after the last step.
    pub observe: Duration,
    /// How long recovery may take.
    pub recover_within: Duration,
    /// What stands in for what.
    pub stand_ins: Vec<String>,
    vars: BTreeMap<String, String>,
    watch: Vec<Node>,
    probes: Vec<Node>,
    steps: Vec<Node>,
}

/// A variant.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name.
    pub name: String,
    set: BTreeMap<String, String>,
    expect: Vec<(String, Expect, Span)>,
}

/// A variant with its variables filled in.
#[derive(Debug)]
pub struct Resolved {
    /// Its name.
    pub name: String,
    /// Its steps.
    pub steps: Vec<ResolvedStep>,
    /// Its probes.
    pub probes: Vec<ResolvedProbe>,
    /// What is expected, by probe.
    pub expect: Vec<(String, Expect)>,
    /// Hosts whose memory is followed for the report.
    pub watch: Vec<String>,
}

/// A probe with its variables filled in.
#[derive(Debug)]
pub struct ResolvedProbe {
    /// Its id.
    pub id: String,
    /// What it looks at.
    pub probe: Box<dyn Probe>,
    /// When it looks.
    pub at: Phase,
    /// The step after which it looks; from the first on where there is none.
    pub since: Option<String>,
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
}

impl Phase {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("before", Self::Before),
        ("during", Self::During),
        ("after", Self::After),
    ];
}

/// Parses a scenario and checks every variant with the variables that the file gives.
pub fn parse(source: &Source) -> Result<Scenario, Vec<Problem>> {
    let root = parse_yaml(0, &source.text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    let scenario = read(&root, &mut reader);
    let mut problems = reader.problems;
    let Some(scenario) = scenario else {
        return Err(problems);
    };
    // Also where the rest has mistakes, so that all are told at once.
    for variant in &scenario.variants {
        for problem in scenario
            .resolve(variant, &BTreeMap::new(), &placeholder)
            .err()
            .unwrap_or_default()
        {
            // Variants share steps: a mistake in one is told once.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    if problems.is_empty() {
        Ok(scenario)
    } else {
        Err(problems)
    }
}

/// Stands for what only a lab knows, when a file is checked without one.
fn placeholder(name: &str) -> Option<String> {
    let stands = match name.split('.').collect::<Vec<_>>().as_slice() {
        ["vip", _, "port"] => "1",
        ["vip" | "gateway", _] | ["address", _, _] => "192.0.2.1",
        ["subnet", _] => "192.0.2.0/24",
        ["nic", _, _] => "eth0",
        _ => return None,
    };
    Some(stands.to_owned())
}

pub(super) fn duration(reader: &mut Reader, node: Option<&Node>, otherwise: Duration) -> Duration {
    let Some(node) = node else { return otherwise };
    let Some(text) = reader.scalar::<String>(node, "duration") else {
        return otherwise;
    };
    let parsed = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok());
    if parsed.is_none() {
        reader.bad_value(
            node,
            &text,
            "duration",
            &"it is written like 90s, 5m or 1h30m",
        );
    }
    parsed.unwrap_or(otherwise)
}

/// Reads a share like `10%`, where it is given.
pub(super) fn percent(
    fields: &mut Fields<'_>,
    key: &'static str,
    reader: &mut Reader,
) -> Option<f64> {
    let node = fields.optional(key)?;
    let text: String = reader.scalar(node, "share")?;
    let share: Option<f64> = text.strip_suffix('%').and_then(|text| text.parse().ok());
    let share = share.filter(|share| (0.0..=100.0).contains(share));
    if share.is_none() {
        reader.bad_value(node, &text, "share", &"it is written like 10%");
    }
    share
}

fn texts(reader: &mut Reader, node: Option<&Node>, place: &str) -> BTreeMap<String, String> {
    let Some(entries) = node.and_then(|node| reader.entries(node, &place)) else {
        return BTreeMap::new();
    };
    entries
        .into_iter()
        .filter_map(|(key, node)| Some((key.text.clone(), reader.scalar(node, "value")?)))
        .collect()
}

fn read(root: &Node, reader: &mut Reader) -> Option<Scenario> {
    let mut fields = reader.fields(root, "the scenario")?;
    if let Some(node) = fields.required("schema", reader)
        && let Some(found) = reader.scalar::<String>(node, "schema")
        && found != "twin/scenario/v1"
    {
        reader.wrong(ScenarioProblem::Schema { found }.at(node.span));
    }
    let name = fields
        .required("name", reader)
        .and_then(|node| reader.scalar(node, "name"));
    let title = fields
        .required("title", reader)
        .and_then(|node| reader.scalar(node, "title"));
    let incident = fields
        .optional("incident")
        .and_then(|node| reader.scalar(node, "incident"));
    let about: Option<String> = fields
        .optional("about")
        .and_then(|node| reader.scalar(node, "about"));
    let vars = fields.optional("vars");
    let vars = texts(reader, vars, "vars");
    let variants = fields
        .required("variants", reader)
        .map(|node| variants(node, reader))
        .unwrap_or_default();
    let (baseline, budget) = safety(reader, fields.optional("safety"));
    let steady_within = gate(
        reader,
        fields.optional("steady"),
        &[("services", &["healthy"])],
    );
    let recover_within = gate(
        reader,
        fields.optional("recover"),
        &[("services", &["healthy"]), ("instances", &["as-before"])],
    );
    let observe = fields.optional("observe");
    let observe = duration(reader, observe, Duration::from_secs(30));
    let probes = fields
        .required("probes", reader)
        .map(|node| reader.items(node).to_vec())
        .unwrap_or_default();
    let steps = fields
        .required("steps", reader)
        .map(|node| reader.items(node).to_vec())
        .unwrap_or_default();
    let watch = fields.optional("watch");
    let watch = watch.map(|node| reader.items(node).to_vec());
    let stand_ins = match fields.optional("stand-ins") {
        Some(node) => reader
            .items(node)
            .iter()
            .filter_map(|item| reader.scalar(item, "text"))
            .collect(),
        None => Vec::new(),
    };
    for (empty, what) in [
        (steps.is_empty(), "steps"),
        (variants.is_empty(), "variants"),
    ] {
        if empty && reader.problems.is_empty() {
            reader.wrong(ScenarioProblem::Empty { what }.at(root.span));
        }
    }
    fields.finish(reader);
    Some(Scenario {
        name: name?,
        // One that is missing has been told.
        title: title.unwrap_or_default(),
        incident,
        about: about.unwrap_or_default().trim().to_owned(),
        variants,
        baseline,
        budget,
        steady_within,
        observe,
        recover_within,
        stand_ins,
        vars,
        watch: watch.unwrap_or_default(),
        probes,
        steps,
    })
}

/// Reads `safety`: the baseline and the budget.
fn safety(reader: &mut Reader, node: Option<&Node>) -> (Policy, Duration) {
    let (mut baseline, mut budget) = (Policy::default(), Duration::from_secs(1500));
    if let Some(mut fields) = node.and_then(|node| reader.fields(node, "safety")) {
        if let Some(node) = fields.optional("baseline") {
            let found = reader.choice(node, "baseline", Policy::WORDS);
            baseline = found.unwrap_or_default();
        }
        let found = fields.optional("budget");
        budget = duration(reader, found, budget);
        fields.finish(reader);
    }
    (baseline, budget)
}

/// Reads a gate: what has to hold, and within which time.
fn gate(reader: &mut Reader, node: Option<&Node>, keys: &[(&'static str, &[&str])]) -> Duration {
    let otherwise = Duration::from_secs(180);
    let Some(mut fields) = node.and_then(|node| reader.fields(node, "the gate")) else {
        return otherwise;
    };
    for (key, words) in keys {
        if let Some(node) = fields.optional(key) {
            let words: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
            let _: Option<()> = reader.choice(node, key, &words);
        }
    }
    let node = fields.optional("within");
    let found = duration(reader, node, otherwise);
    fields.finish(reader);
    found
}

fn variants(node: &Node, reader: &mut Reader) -> Vec<Variant> {
    let Some(entries) = reader.entries(node, &"variants") else {
        return Vec::new();
    };
    let mut variants = Vec::new();
    for (key, node) in entries {
        let Some(mut fields) = reader.fields(node, format!("variant {}", key.text)) else {
            continue;
        };
        let set = fields.optional("set");
        let set = texts(reader, set, "set");
        let mut expect = Vec::new();
        if let Some(node) = fields.required("expect", reader) {
            for (probe, node) in reader.entries(node, &"expect").unwrap_or_default() {
                let words = [("fires", Expect::Fires), ("never", Expect::Never)];
                expect.extend(
                    reader
                        .choice(node, "expectation", &words)
                        .map(|expected| (probe.text.clone(), expected, probe.span)),
                );
            }
        }
        fields.finish(reader);
        variants.push(Variant {
            name: key.text.clone(),
            set,
            expect,
        });
    }
    variants
}

impl Scenario {
    /// Fills a variant's variables in: the file's, the variant's, the operator's `overrides`, and what the lab knows.
    pub fn resolve(
        &self,
        variant: &Variant,
        overrides: &BTreeMap<String, String>,
        lab: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Resolved, Vec<Problem>> {
        let mut reader = Reader::default();
        let value = |name: &str| {
            overrides
                .get(name)
                .or_else(|| variant.set.get(name))
                .or_else(|| self.vars.get(name))
                .cloned()
                .or_else(|| lab(name))
        };
        let variants: Vec<String> = self.variants.iter().map(|one| one.name.clone()).collect();
        let mut steps = Steps::new(&variant.name, &variants);
        for node in &self.steps {
            let node = fill_in(node, &value, &mut reader);
            steps.take(&node, &mut reader);
        }
        let mut watch: Vec<Name> = Vec::new();
        for node in &self.watch {
            let node = fill_in(node, &value, &mut reader);
            watch.extend(reader.scalar::<Name>(&node, "host name"));
        }
        let mut probes: Vec<ResolvedProbe> = Vec::new();
        for node in &self.probes {
            let node = fill_in(node, &value, &mut reader);
            if let Some((probe, span)) = probe(&node, &mut reader) {
                let id = &probe.id;
                if probes.iter().any(|earlier| earlier.id == *id) {
                    reader.wrong(ScenarioProblem::DuplicateId { id: id.clone() }.at(span));
                }
                probes.push(probe);
            }
        }
        let expected = variant.expect.iter().map(|(id, _, span)| (id, span));
        let waited_for = steps.waited_for.iter().map(|(id, span)| (id, span));
        // Those with mistakes in them too: what names them is right.
        let known: Vec<&str> = self.probes.iter().filter_map(id_of).collect();
        for (id, span) in expected.chain(waited_for) {
            if !known.contains(&id.as_str()) {
                let near = nearest(id, known.iter().copied()).map(str::to_owned);
                reader.wrong(
                    ScenarioProblem::UnknownId {
                        id: id.clone(),
                        near,
                    }
                    .at(*span),
                );
            }
        }
        if !reader.problems.is_empty() {
            return Err(reader.problems);
        }
        let watch = watch.into_iter().map(|host| host.to_string()).collect();
        let expect = variant
            .expect
            .iter()
            .map(|(id, expected, _)| (id.clone(), *expected))
            .collect();
        Ok(Resolved {
            name: variant.name.clone(),
            steps: steps.read,
            probes,
            expect,
            watch,
        })
    }

    /// Whether `name` is a variable that can be set.
    pub fn knows_variable(&self, name: &str) -> bool {
        self.vars.contains_key(name)
            || self
                .variants
                .iter()
                .any(|variant| variant.set.contains_key(name))
    }
}

/// How deep a variable's value may name others.
const DEEPEST: usize = 8;

/// Replaces `${name}` in every text below `node`.
fn fill_in(node: &Node, value: &dyn Fn(&str) -> Option<String>, reader: &mut Reader) -> Node {
    let filled = match &node.value {
        Value::Text(text) => Value::Text(fill_text(text, node.span, value, reader, DEEPEST)),
        Value::List(items) => Value::List(
            items
                .iter()
                .map(|item| fill_in(item, value, reader))
                .collect(),
        ),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, item)| (key.clone(), fill_in(item, value, reader)))
                .collect(),
        ),
        other => other.clone(),
    };
    Node {
        span: node.span,
        value: filled,
    }
}

fn fill_text(
    text: &str,
    span: Span,
    value: &dyn Fn(&str) -> Option<String>,
    reader: &mut Reader,
    deeper: usize,
) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(before);
        match value(name).filter(|_| deeper > 0) {
            Some(found) => {
                filled.push_str(&fill_text(&found, span, value, reader, deeper - 1));
            }
            None => reader.wrong(
                ScenarioProblem::UnknownVariable {
                    name: name.to_owned(),
                }
                .at(span),
            ),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

/// The id that a probe gives itself.
fn id_of(node: &Node) -> Option<&str> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let (_, id) = entries.iter().find(|(key, _)| key.text == "id")?;
    match &id.value {
        Value::Text(text) | Value::Number(text) => Some(text),
        _ => None,
    }
}

fn probe(node: &Node, reader: &mut Reader) -> Option<(ResolvedProbe, Span)> {
    let entries = reader.entries(node, &"the probe")?;
    let (mut id, mut found, mut at, mut span) = (None, None, Phase::default(), node.span);
    let (mut since, mut count) = (None, 0);
    for (key, node) in entries {
        match key.text.as_str() {
            "id" => {
                id = reader.scalar(node, "id");
                span = node.span;
            }
            "since" => since = reader.scalar(node, "step"),
            "at" => {
                at = reader
                    .choice(node, "phase", Phase::WORDS)
                    .unwrap_or_default();
            }
            _ => {
                count += 1;
                found = super::probe::parse(key, node, reader);
            }
        }
    }
    if count != 1 {
        reader.wrong(ScenarioProblem::OneProbe { count }.at(node.span));
    }
    if id.is_none() {
        reader.wrong(
            crate::diagnostics::FormatError::MissingKey {
                key: "id",
                place: "the probe".into(),
            }
            .at(node.span),
        );
    }
    let (id, probe) = (id?, found?);
    let resolved = ResolvedProbe {
        id,
        probe,
        at,
        since,
    };
    Some((resolved, span))
}
