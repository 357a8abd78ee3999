//! Scenario files: those that come with twin are right, and mistakes name their place and cure.

use std::collections::BTreeSet;

use twin::diagnostics::{Problem, Source};
use twin::scenario::{ScenarioProblem, parse};

use crate::support::root;

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

#[test]
fn each_kind_of_mistake_is_found_with_its_cure() {
    let cases = [
        (
            "schema",
            GOOD.replace("scenario/v1", "scenario/v9"),
            "twin/scenario/v1",
        ),
        (
            "unknown-action",
            GOOD.replace("instance-fill", "instance-fil"),
            "did you mean instance-fill?",
        ),
        (
            "unknown-probe",
            GOOD.replace("scheduler-refused", "sceduler-refused"),
            "did you mean scheduler-refused?",
        ),
        (
            "unknown-variable",
            GOOD.replace("${host}", "${hots}"),
            "--set hots=",
        ),
        ("unknown-id", GOOD.replace("{p: fires}", "{q: fires}"), "p"),
        (
            "duplicate-id",
            GOOD.replace(
                "steps: [",
                "steps: [{id: fill, do: {instance-touch: {host: a}}}, ",
            ),
            "an id of its own",
        ),
        (
            "empty",
            GOOD.replace(
                "steps: [{id: fill, do: {instance-fill: {host: \"${host}\", flavor: worker}}}]",
                "steps: []",
            ),
            "add steps",
        ),
        (
            "one-action",
            GOOD.replace(
                "do: {instance-fill: {host: \"${host}\", flavor: worker}}",
                "do: {}",
            ),
            "several steps",
        ),
    ];
    let cases = cases.into_iter().chain([
        (
            "one-work",
            GOOD.replace("steps: [{id: fill,", "steps: [{id: fill, wait: p,"),
            "each with one of them",
        ),
        (
            "one-probe",
            GOOD.replace(
                "scheduler-refused: {step: fill}",
                "scheduler-refused: {step: fill}, process: {host: a, name: n, is: runs}",
            ),
            "a probe of its own",
        ),
        (
            "not-together",
            GOOD.replace(
                "steps: [",
                "steps: [{id: both, together: [{id: calm, pause: 1s}]}, ",
            ),
            "steps of their own",
        ),
    ]);
    let mut covered = BTreeSet::new();
    for (code, text, cure) in cases {
        let found = problems(&text);
        let problem = found.iter().find(|problem| problem.code == code);
        let problem = problem.unwrap_or_else(|| panic!("{code}: {found:?}"));
        assert!(problem.cure.contains(cure), "{code}: {}", problem.cure);
        assert!(problem.span.offset < text.len());
        covered.insert(code);
    }
    assert_eq!(covered, ScenarioProblem::CODES.iter().copied().collect());
}

#[test]
fn mistakes_in_several_places_are_told_at_once() {
    let text = GOOD
        .replace("{p: fires}", "{q: fires}")
        .replace("flavor: worker", "flavour: worker")
        .replace("steps: [", "steps: [{id: later, wait: r}, ");
    let codes: BTreeSet<&str> = problems(&text).iter().map(|problem| problem.code).collect();
    assert_eq!(
        codes,
        BTreeSet::from(["missing-key", "unknown-id", "unknown-key"])
    );
    let ids = problems(&text);
    let ids = ids.iter().filter(|problem| problem.code == "unknown-id");
    assert_eq!(
        ids.count(),
        2,
        "the probe that is expected, and the one that is waited for"
    );
}
