//! Writing a variant as a scenario file of its own: what a campaign has found can be read, kept and run again.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::arguments::Period;
use super::file::{Resolved, Scenario};
use super::probe;
use super::probe_entry::{Phase, ResolvedProbe};
use super::step::{ResolvedStep, Work};

/// A mapping in the order in which it is written.
struct Entries(Vec<(&'static str, Value)>);

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// A scenario file.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Written<'s> {
    schema: &'static str,
    name: &'s str,
    title: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<&'s str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    about: &'s str,
    safety: Entries,
    steady: Entries,
    variants: Value,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    watch: &'s [String],
    probes: Vec<Entries>,
    steps: Vec<Entries>,
    recover: Entries,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stand_ins: &'s [String],
}

fn period(of: std::time::Duration) -> Value {
    Period::from(of).to_string().into()
}

impl Resolved {
    fn has(&self, step: &str) -> bool {
        self.steps.iter().any(|one| one.ids().contains(&step))
    }

    /// The probes that look in this variant: others wait for steps that it does not have.
    pub(super) fn own_probes(&self) -> impl Iterator<Item = &ResolvedProbe> {
        let looks = |one: &&ResolvedProbe| {
            let arguments = one.probe.arguments();
            let of = arguments["step"].as_str();
            let of = of.filter(|_| probe::is_of_steps(one.probe.name()));
            let mut steps = one.since.as_deref().into_iter().chain(of);
            steps.all(|step| self.has(step))
        };
        self.probes.iter().filter(looks)
    }

    /// Its steps, without those that revert a step of another variant.
    pub(super) fn own_steps(&self) -> impl Iterator<Item = &ResolvedStep> {
        let is_own = |one: &&ResolvedStep| match &one.work {
            Work::Undo(step) => self.has(step),
            _ => true,
        };
        self.steps.iter().filter(is_own)
    }

    fn safety(&self, scenario: &Scenario) -> Entries {
        let mut entries = vec![
            ("baseline", scenario.baseline.as_str().into()),
            ("budget", period(scenario.budget)),
        ];
        let lists = [
            ("allow", self.allow.as_ref()),
            (
                "protect",
                Some(&self.protect).filter(|hosts| !hosts.is_empty()),
            ),
        ];
        let lists = lists
            .into_iter()
            .filter_map(|(key, hosts)| Some((key, json!(hosts?))));
        entries.extend(lists);
        entries.extend(
            scenario
                .most_hosts()
                .map(|most| ("most-hosts", most.into())),
        );
        let stop = |stop: &super::Stop| json!({"probe": stop.probe, "failures": stop.failures});
        let stops: Vec<Value> = self.stop.iter().map(stop).collect();
        if !stops.is_empty() {
            entries.push(("stop", stops.into()));
        }
        Entries(entries)
    }
}

impl ResolvedProbe {
    fn written(&self) -> Entries {
        let mut entries = vec![
            ("id", self.id.as_str().into()),
            (self.probe.name(), self.probe.arguments()),
        ];
        if self.at != Phase::default() {
            let word = Phase::WORDS.iter().find(|(_, phase)| *phase == self.at);
            entries.extend(word.map(|(word, _)| ("at", (*word).into())));
        }
        entries.extend(self.since.as_deref().map(|step| ("since", step.into())));
        if self.times != 1 {
            entries.push(("times", self.times.into()));
        }
        if !self.lasts.is_zero() {
            entries.push(("for", period(self.lasts)));
        }
        if self.retries != 0 {
            entries.push(("retries", self.retries.into()));
        }
        if self.misses != 0 {
            entries.push(("misses", self.misses.into()));
        }
        Entries(entries)
    }
}

impl ResolvedStep {
    fn written(&self) -> Entries {
        let mut entries = vec![("id", self.id.as_str().into())];
        let within = ("within", period(self.within));
        match &self.work {
            Work::Act(fault, lasts) => {
                entries.push(("do", json!({fault.name(): fault.arguments()})));
                entries.extend(lasts.map(|lasts| ("for", period(lasts))));
                entries.push(within);
            }
            Work::Wait(probe) => {
                entries.push(("wait", probe.as_str().into()));
                entries.push(within);
            }
            Work::Pause(time) => entries.push(("pause", period(*time))),
            Work::Undo(step) => entries.push(("undo", step.as_str().into())),
            Work::Baseline(name) => {
                entries.push(("baseline", name.as_str().into()));
                entries.push(within);
            }
            Work::Together(steps) => {
                let steps: Vec<Value> = steps.iter().map(|step| json!(step.written())).collect();
                entries.push(("together", steps.into()));
            }
        }
        if self.background {
            entries.push(("background", true.into()));
        }
        Entries(entries)
    }
}

impl Scenario {
    /// Writes one of its variants, with the variables filled in, as a scenario file.
    pub fn written(&self, variant: &Resolved) -> Result<String, serde_saphyr::ser::Error> {
        let expect = variant.expect.iter();
        let expect: serde_json::Map<String, Value> = expect
            .map(|(id, expect)| (id.clone(), json!(expect)))
            .collect();
        let variants = json!({
            variant.name.as_str(): {"expect": expect, "observe": period(variant.observe)}
        });
        let written = Written {
            schema: "twin/scenario/v1",
            name: self.name.as_str(),
            title: &self.title,
            incident: self.incident.as_deref(),
            about: &self.about,
            safety: variant.safety(self),
            steady: Entries(vec![("within", period(self.steady_within))]),
            variants,
            watch: &variant.watch,
            probes: variant.own_probes().map(ResolvedProbe::written).collect(),
            steps: variant.own_steps().map(ResolvedStep::written).collect(),
            recover: Entries(vec![("within", period(self.recover_within))]),
            stand_ins: &self.stand_ins,
        };
        serde_saphyr::to_string(&written)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::variables::Placeholder;
    use super::*;
    use crate::diagnostics::Source;
    use crate::scenario::parse;

    fn scenario(name: &str, text: &str) -> Scenario {
        let (name, text) = (name.to_owned(), text.to_owned());
        let parsed = parse(&Source {
            name,
            text: text.clone(),
        });
        parsed.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
    }

    fn resolve(scenario: &Scenario, index: usize) -> Resolved {
        let variant = &scenario.variants[index];
        let resolved = scenario.resolve(variant, &BTreeMap::new(), &Placeholder);
        resolved.expect("it was checked when it was parsed")
    }

    #[test]
    fn every_variant_of_every_scenario_is_the_same_once_it_is_written_and_read() {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files = std::fs::read_dir(files).expect("they are there");
        let mut variants = 0;
        for file in files.map(|file| file.expect("it is readable").path()) {
            if file.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).expect("it is readable");
            let whole = scenario(&name, &text);
            for index in 0..whole.variants.len() {
                let one = resolve(&whole, index);
                let text = whole.written(&one).expect("it can be written");
                let read = scenario(&name, &text);
                let again = resolve(&read, 0);
                let probes: Vec<&ResolvedProbe> = one.own_probes().collect();
                let steps: Vec<&ResolvedStep> = one.own_steps().collect();
                assert_eq!(again.probes.iter().collect::<Vec<_>>(), probes, "{text}");
                assert_eq!(again.steps.iter().collect::<Vec<_>>(), steps, "{text}");
                let rest = |one: Resolved| Resolved {
                    probes: Vec::new(),
                    steps: Vec::new(),
                    expect: {
                        let mut expect = one.expect;
                        expect.sort_by(|one, other| one.0.cmp(&other.0));
                        expect
                    },
                    ..one
                };
                assert_eq!(rest(again), rest(one), "{text}");
                let of = |one: &Scenario| {
                    let times = (one.budget, one.steady_within, one.recover_within);
                    let texts = (one.title.clone(), one.about.clone(), one.incident.clone());
                    (
                        times,
                        texts,
                        one.baseline,
                        one.stand_ins.clone(),
                        one.most_hosts(),
                    )
                };
                assert_eq!(of(&read), of(&whole), "{text}");
                assert_eq!(read.written(&resolve(&read, 0)).expect("it can"), text);
                variants += 1;
            }
        }
        assert!(variants >= 12, "{variants}");
    }
}
