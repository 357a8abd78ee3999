//! Scenario files: those that come with twin are right, and mistakes name their place and cure.

use std::collections::BTreeSet;
use std::path::Path;

use twin::diagnostics::{FormatError, Problem, Source, render};
use twin::scenario::{ScenarioProblem, parse};

use crate::golden::{cover, pictures};
use crate::support::root;

const KIND: &str = "scenario";

const GOOD: &str = "schema: twin/scenario/v1
name: s
title: T
vars: {host: a}
variants: {bug: {expect: {p: fires}}}
probes: [{id: p, scheduler-refused: {step: fill}}]
steps: [{id: fill, do: {instance-fill: {host: \"${host}\", flavor: worker}}}]
";

fn problems(text: &str) -> Vec<Problem> {
    parse(&Source {
        name: "s.yaml".into(),
        text: text.into(),
    })
    .err()
    .unwrap_or_default()
}

#[test]
fn the_scenarios_that_come_with_twin_are_right() {
    for entry in std::fs::read_dir(root().join("scenarios"))
        .unwrap()
        .flatten()
    {
        if entry.path().extension().is_some_and(|kind| kind == "yaml") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert_eq!(problems(&text), [], "{}", entry.path().display());
        }
    }
    assert_eq!(problems(GOOD), []);
}

fn told(case: &Path) -> (Vec<&'static str>, String) {
    let source = Source {
        name: case.file_name().unwrap().to_string_lossy().into_owned(),
        text: std::fs::read_to_string(case).unwrap(),
    };
    let problems = parse(&source).err().unwrap_or_default();
    let codes = problems.iter().map(|problem| problem.code).collect();
    (codes, render(&problems, &[source], false))
}

#[test]
fn every_mistake_shows_file_line_column_and_cure() {
    pictures(KIND, told);
}

#[test]
fn no_kind_of_mistake_lacks_a_case() {
    cover(KIND, &[ScenarioProblem::CODES, FormatError::CODES]);
}

/// A step's name may have variables in it, and so has what names it.
#[test]
fn a_step_is_known_by_its_name_with_the_variables_filled_in() {
    let text = GOOD
        .replace("{id: fill,", "{id: \"fill-${host}\",")
        .replace("{step: fill}", "{step: \"fill-${host}\"}");
    assert_ne!(text, GOOD);
    assert_eq!(problems(&text), []);
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    let content = |length: usize| {
        let change = format!(
            "{{host: a, path: /etc/hosts, content: {}}}",
            "x".repeat(length)
        );
        let step = format!("{{id: long, do: {{file-change: {change}}}}}");
        GOOD.replace("steps: [", &format!("steps: [{step}, "))
    };
    assert_eq!(problems(&content(65536)), []);
    let codes: Vec<&str> = problems(&content(65537))
        .iter()
        .map(|one| one.code)
        .collect();
    assert_eq!(codes, ["bad-value"]);
}

/// Values that name one another again and again are told of at once, and not filled in first.
#[test]
fn values_that_grow_without_end_are_refused() {
    let doubled = |index: u32| format!("v{index}: \"${{v{0}}}${{v{0}}}${{v{0}}}\"", index + 1);
    let vars: Vec<String> = (0..40).map(doubled).collect();
    let vars = format!("{{host: \"${{v0}}\", v40: a, {}}}", vars.join(", "));
    let text = GOOD.replace("{host: a}", &vars);
    let codes: Vec<&str> = problems(&text).iter().map(|problem| problem.code).collect();
    assert!(codes.contains(&"endless-variable"), "{codes:?}");
}

#[test]
fn mistakes_in_several_places_are_told_at_once() {
    let text = GOOD
        .replace("{p: fires}", "{q: fires}")
        .replace("flavor: worker", "flavour: worker")
        .replace("steps: [", "steps: [{id: later, wait: r}, ");
    let codes: BTreeSet<&str> = problems(&text).iter().map(|problem| problem.code).collect();
    // flavour is told as a misspelt flavor, and not as a missing one besides.
    assert_eq!(codes, BTreeSet::from(["unknown-id", "unknown-key"]));
    let ids = problems(&text);
    let ids = ids.iter().filter(|problem| problem.code == "unknown-id");
    assert_eq!(
        ids.count(),
        2,
        "the probe that is expected, and the one that is waited for"
    );
}
