//! Scenario files: `twin/scenario/v1`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::baseline::Policy;
use super::error::ScenarioProblem;
use super::probe::Probe;
use super::safety::{self, Safety, Stop};
use super::step::{ResolvedStep, Steps};
use super::variables::{fill_in, placeholder};
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
    /// It holds at each look of one that looks all the time, but for the misses that it may have.
    Always,
}

impl Expect {
    pub(super) const WORDS: &'static [(&'static str, Self)] = &[
        ("fires", Self::Fires),
        ("never", Self::Never),
        ("always", Self::Always),
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fires => "fires",
            Self::Never => "never",
            Self::Always => "always",
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
    /// What a variant's steps and observing may take at the most.
    pub budget: Duration,
    /// How long services may take to be healthy before the first step.
    pub steady_within: Duration,
    /// How long probes are watched after the last step, where the variant does not say.
    pub observe: Duration,
    /// How long recovery may take.
    pub recover_within: Duration,
    /// What stands in for what.
    pub stand_ins: Vec<String>,
    safety: Safety,
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
    observe: Option<Duration>,
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
    /// The hosts that its steps act on.
    pub targets: Vec<String>,
    /// The hosts that its safety names: a name that is none would protect nothing.
    pub named: Vec<String>,
    /// When it is stopped.
    pub stop: Vec<Stop>,
    /// How long its probes are watched after the last step, and at the most after recovery.
    pub observe: Duration,
}

impl Resolved {
    /// What is expected of a probe.
    pub(super) fn expected(&self, id: &str) -> Option<Expect> {
        let expected = self.expect.iter().find(|(expected, _)| expected == id);
        expected.map(|(_, expected)| *expected)
    }
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
    /// How often in a row it has to hold.
    pub times: u32,
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
    let safety = safety::read(reader, fields.optional("safety"));
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
        baseline: safety.baseline,
        budget: safety.budget,
        safety,
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
                expect.extend(
                    reader
                        .choice(node, "expectation", Expect::WORDS)
                        .map(|expected| (probe.text.clone(), expected, probe.span)),
                );
            }
        }
        let observe = fields.optional("observe");
        let observe = observe.map(|node| duration(reader, Some(node), Duration::ZERO));
        fields.finish(reader);
        variants.push(Variant {
            name: key.text.clone(),
            set,
            expect,
            observe,
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
        let mut filled = |node: &Node, reader: &mut Reader| fill_in(node, &value, reader);
        let stops = self.safety.stops(&mut filled, &mut reader);
        let hosts = self
            .safety
            .targets(&steps.acted_on, &mut filled, &mut reader);
        self.check_named(variant, &steps, &stops, &probes, &mut reader);
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
            targets: hosts.targets,
            named: hosts.named,
            stop: stops.into_iter().map(|(stop, _)| stop).collect(),
            observe: variant.observe.unwrap_or(self.observe),
        })
    }

    /// Checks that the probes that are named are there, and look all the time where that is needed.
    fn check_named(
        &self,
        variant: &Variant,
        steps: &Steps<'_>,
        stops: &[(Stop, Span)],
        probes: &[ResolvedProbe],
        reader: &mut Reader,
    ) {
        let expected = variant
            .expect
            .iter()
            .map(|(id, expected, span)| (id, span, *expected == Expect::Always));
        let waited_for = steps.waited_for.iter().map(|(id, span)| (id, span, false));
        let stops = stops.iter().map(|(stop, span)| (&stop.probe, span, true));
        // Those with mistakes in them too: what names them is right.
        let known: Vec<&str> = self.probes.iter().filter_map(id_of).collect();
        for (id, span, all_the_time) in expected.chain(waited_for).chain(stops) {
            let id = id.clone();
            if !known.contains(&id.as_str()) {
                let near = nearest(&id, known.iter().copied()).map(str::to_owned);
                reader.wrong(ScenarioProblem::UnknownId { id, near }.at(*span));
            } else if all_the_time
                && probes
                    .iter()
                    .any(|probe| probe.id == id && probe.at != Phase::Continuous)
            {
                reader.wrong(ScenarioProblem::NotContinuous { id }.at(*span));
            }
        }
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
    let (mut times, mut retries, mut misses) = (1, 0, 0);
    // Keys that mean nothing to one that looks all the time, and one that means nothing to any other.
    let (mut not_all_the_time, mut all_the_time) = (None, None);
    for (key, node) in entries {
        match key.text.as_str() {
            "times" => {
                let found = reader.scalar::<std::num::NonZeroU32>(node, "count");
                times = found.map_or(1, std::num::NonZeroU32::get);
            }
            "retries" => retries = reader.scalar(node, "count").unwrap_or_default(),
            "misses" => {
                misses = reader.scalar(node, "count").unwrap_or_default();
                all_the_time = Some(key);
            }
            "id" => {
                id = reader.scalar(node, "id");
                span = node.span;
            }
            "since" => {
                since = reader.scalar(node, "step");
                not_all_the_time = Some(key);
            }
            "at" => {
                at = reader
                    .choice(node, "phase", Phase::WORDS)
                    .unwrap_or_default();
            }
            _ => {
                count += 1;
                found = super::probe::parse(key, node, reader);
                if super::probe::is_of_steps(&key.text) {
                    not_all_the_time = Some(key);
                }
            }
        }
    }
    let (wrong, why) = match at {
        Phase::Continuous => (
            not_all_the_time,
            "a probe that looks all the time has no step",
        ),
        _ => (
            all_the_time,
            "only a probe that looks all the time may miss",
        ),
    };
    if let Some(key) = wrong {
        let node = Node {
            span: key.span,
            value: Value::Text(key.text.clone()),
        };
        reader.bad_value(&node, &key.text, "key here", &why);
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
        times,
        retries,
        misses,
    };
    Some((resolved, span))
}
