//! Scenario files: `twin/scenario/v1`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::arguments::duration;
use super::error::ScenarioProblem;
use super::expect::Expect;
use super::probe_entry::{NamedStep, Phase, ResolvedProbe, id_of, probe};
use super::safety::{self, Policy, Safety, Stop};
use super::step::{ResolvedStep, Steps, ids_of};
use super::variables::{Filling, Placeholder, Variables};
use crate::diagnostics::{
    Fields, Node, Problem, Reader, Source, Span, nearest, parse as parse_yaml,
};
use crate::units::Name;

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
    /// The variables that the file gives a value, each time that it does.
    given: Vec<(String, Span)>,
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
#[derive(Clone, Debug, PartialEq)]
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
    /// The only hosts that its steps may act on.
    pub allow: Option<Vec<String>>,
    /// Hosts that they may not act on.
    pub protect: Vec<String>,
    /// When it is stopped.
    pub stop: Vec<Stop>,
    /// How long its probes are watched after the last step, and at the most after recovery.
    pub observe: Duration,
}

impl Resolved {
    /// The hosts that its safety names: a name that is none would protect nothing.
    pub fn named(&self) -> impl Iterator<Item = &String> {
        self.allow.iter().flatten().chain(&self.protect)
    }

    /// What is expected of a probe.
    pub(super) fn expected(&self, id: &str) -> Option<Expect> {
        let expected = self.expect.iter().find(|(expected, _)| expected == id);
        expected.map(|(_, expected)| *expected)
    }
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
    // Also where the rest has mistakes, so that all are reported at once.
    let mut named = BTreeSet::new();
    for variant in &scenario.variants {
        for problem in scenario
            .resolve_naming(variant, &BTreeMap::new(), &Placeholder, &mut named)
            .err()
            .unwrap_or_default()
        {
            // Variants share steps: a mistake in one is reported once.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    // What a step with a mistake would have named is not known.
    if problems.is_empty() {
        problems.extend(scenario.idle(&named));
    }
    if problems.is_empty() {
        Ok(scenario)
    } else {
        Err(problems)
    }
}

/// Reads variables; `given` takes down where each is given.
fn texts(
    reader: &mut Reader,
    node: Option<&Node>,
    place: &str,
    given: &mut Vec<(String, Span)>,
) -> BTreeMap<String, String> {
    let Some(entries) = node.and_then(|node| reader.entries(node, &place)) else {
        return BTreeMap::new();
    };
    given.extend(entries.iter().map(|(key, _)| (key.text.clone(), key.span)));
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
    let mut given = Vec::new();
    let vars = texts(reader, vars, "vars", &mut given);
    let variants = fields
        .required("variants", reader)
        .map(|node| variants(node, &mut given, reader))
        .unwrap_or_default();
    let safety = safety::read(reader, fields.optional("safety"));
    let (steady_within, recover_within) = gates(&mut fields, reader);
    let observe = fields.optional("observe");
    let observe = duration(reader, observe, Duration::from_secs(30));
    let mut items = |key| {
        let node = fields.required(key, reader);
        node.map(|node| reader.items(node).to_vec())
            .unwrap_or_default()
    };
    let (probes, steps) = (items("probes"), items("steps"));
    let watch = fields.optional("watch");
    let watch = watch.map(|node| reader.items(node).to_vec());
    let stand_ins = lines(&mut fields, "stand-ins", reader);
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
        given,
        watch: watch.unwrap_or_default(),
        probes,
        steps,
    })
}

/// Reads the gates before the first step and after the last revert.
fn gates(fields: &mut Fields<'_>, reader: &mut Reader) -> (Duration, Duration) {
    let steady = fields.optional("steady");
    let steady = gate(reader, steady, &[("services", &["healthy"])]);
    let recover = fields.optional("recover");
    let keys: &[(_, &[_])] = &[("services", &["healthy"]), ("instances", &["as-before"])];
    (steady, gate(reader, recover, keys))
}

/// Reads a list of lines, where it is given.
fn lines(fields: &mut Fields<'_>, key: &'static str, reader: &mut Reader) -> Vec<String> {
    let items = fields.optional(key).map(|node| reader.items(node).to_vec());
    let items = items.unwrap_or_default();
    items
        .iter()
        .filter_map(|item| reader.scalar(item, "text"))
        .collect()
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

fn variants(node: &Node, given: &mut Vec<(String, Span)>, reader: &mut Reader) -> Vec<Variant> {
    let Some(entries) = reader.entries(node, &"variants") else {
        return Vec::new();
    };
    let mut variants = Vec::new();
    for (key, node) in entries {
        let Some(mut fields) = reader.fields(node, format!("variant {}", key.text)) else {
            continue;
        };
        let set = fields.optional("set");
        let set = texts(reader, set, "set", given);
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
        lab: &dyn Variables,
    ) -> Result<Resolved, Vec<Problem>> {
        self.resolve_naming(variant, overrides, lab, &mut BTreeSet::new())
    }

    /// The same; `named` takes the variables that are named.
    fn resolve_naming(
        &self,
        variant: &Variant,
        overrides: &BTreeMap<String, String>,
        lab: &dyn Variables,
        named: &mut BTreeSet<String>,
    ) -> Result<Resolved, Vec<Problem>> {
        let mut reader = Reader::default();
        let values = Values {
            given: [overrides, &variant.set, &self.vars],
            lab,
        };
        let mut filling = Filling::new(&values);
        let variants: Vec<String> = self.variants.iter().map(|one| one.name.clone()).collect();
        let mut steps = Steps::new(&variant.name, &variants);
        let mut step_ids = Vec::new();
        for node in &self.steps {
            let node = filling.fill_in(node, &mut reader);
            step_ids.extend(ids_of(&node).into_iter().map(str::to_owned));
            steps.take(&node, &mut reader);
        }
        let mut watch: Vec<Name> = Vec::new();
        for node in &self.watch {
            let node = filling.fill_in(node, &mut reader);
            watch.extend(reader.scalar::<Name>(&node, "host name"));
        }
        let mut probes: Vec<ResolvedProbe> = Vec::new();
        let mut named_steps = Vec::new();
        for node in &self.probes {
            let node = filling.fill_in(node, &mut reader);
            if let Some((probe, span)) = probe(&node, &mut named_steps, &mut reader) {
                let id = &probe.id;
                if probes.iter().any(|earlier| earlier.id == *id) {
                    reader.wrong(ScenarioProblem::DuplicateId { id: id.clone() }.at(span));
                }
                probes.push(probe);
            }
        }
        let mut filled = |node: &Node, reader: &mut Reader| filling.fill_in(node, reader);
        let stops = self.safety.stops(&mut filled, &mut reader);
        let hosts = self
            .safety
            .targets(&steps.acted_on, &mut filled, &mut reader);
        named.append(&mut filling.named);
        self.check_named(variant, &steps, &stops, &probes, &mut reader);
        check_named_steps(variant, (&steps, &step_ids), &named_steps, &mut reader);
        if !reader.problems.is_empty() {
            return Err(without_what_follows(reader.problems));
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
            allow: hosts.allow,
            protect: hosts.protect,
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

    /// The values that the file gives and nothing takes: a mistyped name leaves another's value in place.
    fn idle(&self, named: &BTreeSet<String>) -> Vec<Problem> {
        let idle = self.given.iter().filter(|(name, _)| !named.contains(name));
        let idle = idle.map(|(name, span)| {
            let near = nearest(name, named.iter().map(String::as_str)).map(str::to_owned);
            let name = name.clone();
            ScenarioProblem::IdleVariable { name, near }.at(*span)
        });
        idle.collect()
    }

    /// The variables that can be set, with their values where the file gives one for all variants.
    pub fn variables(&self) -> BTreeMap<&str, Option<&str>> {
        let of_variants = self.variants.iter().flat_map(|variant| variant.set.keys());
        let of_variants = of_variants.map(|name| (name.as_str(), None));
        let of_all = self.vars.iter();
        let of_all = of_all.map(|(name, value)| (name.as_str(), Some(value.as_str())));
        of_variants.chain(of_all).collect()
    }

    /// On how many hosts a variant may act at the most.
    pub(super) const fn most_hosts(&self) -> Option<usize> {
        self.safety.most_hosts
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

/// Where variables have their values from: the first that knows one.
struct Values<'v> {
    given: [&'v BTreeMap<String, String>; 3],
    lab: &'v dyn Variables,
}

impl Variables for Values<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let given = self.given.iter().find_map(|given| given.get(name));
        given.cloned().or_else(|| self.lab.value(name))
    }

    fn names(&self) -> Vec<String> {
        let given = self.given.iter().flat_map(|given| given.keys().cloned());
        given.chain(self.lab.names()).collect()
    }
}

/// Leaves out what is wrong only because a variable there has no value.
fn without_what_follows(mut problems: Vec<Problem>) -> Vec<Problem> {
    let is_first = |problem: &Problem| problem.code == "unknown-variable";
    let unfilled: Vec<Span> = problems
        .iter()
        .filter(|problem| is_first(problem))
        .map(|problem| problem.span)
        .collect();
    problems.retain(|problem| is_first(problem) || !unfilled.contains(&problem.span));
    problems
}

/// Checks that the steps that probes name are there, and are this variant's where something is expected of the probe.
fn check_named_steps(
    variant: &Variant,
    (steps, known): (&Steps<'_>, &[String]),
    named: &[NamedStep],
    reader: &mut Reader,
) {
    // A step with mistakes has not been read.
    let sound = reader.problems.is_empty();
    for NamedStep { probe, step, span } in named {
        let waited_for = steps.waited_for.iter().any(|(id, _)| id == probe);
        let expected = waited_for || variant.expect.iter().any(|(id, ..)| id == probe);
        if known.is_empty() {
            // That there are none has been told.
        } else if !known.contains(step) {
            let near = nearest(step, known.iter().map(String::as_str)).map(str::to_owned);
            let id = step.clone();
            reader.wrong(ScenarioProblem::UnknownId { id, near }.at(*span));
        } else if expected && !steps.has(step) && sound {
            let never = ScenarioProblem::NeverLooks {
                probe: probe.clone(),
                step: step.clone(),
                variant: variant.name.clone(),
            };
            reader.wrong(never.at(*span));
        }
    }
}
