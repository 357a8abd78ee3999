//! A run as `JUnit` XML: a suite a variant, a case a step or probe with an expectation.

use std::fmt::Write as _;

use super::escape::escaped;
use crate::scenario::{Outcome, RunResult, StepOutcome, VariantResult};

/// How a case ended.
enum Ended {
    Well,
    Failed(String),
    /// What was seen does not decide it.
    Inconclusive(String),
}

/// Seconds with milliseconds, as the schema has them.
fn time(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// The cases of a variant: name, how long, how it ended. What was kept in place on purpose is no failure.
fn cases(variant: &VariantResult, kept: bool) -> Vec<(String, u64, Ended)> {
    let mut cases = Vec::new();
    for step in &variant.steps {
        let ended = match step.result {
            StepOutcome::Verified | StepOutcome::Undone => Ended::Well,
            StepOutcome::NoEffect => {
                Ended::Inconclusive(format!("{}: {}", step.result, step.detail))
            }
            _ => Ended::Failed(format!("{}: {}", step.result, step.detail)),
        };
        cases.push((format!("step {}", step.id), step.took_ms, ended));
    }
    for probe in &variant.probes {
        let Some(expected) = probe.expected else {
            continue;
        };
        let ended = match probe.as_expected() {
            Some(true) => Ended::Well,
            Some(false) => Ended::Failed(format!("{}, and expected: {expected}", probe.result)),
            None => Ended::Inconclusive("it could not look".into()),
        };
        let took = probe.fired_ms.unwrap_or(0);
        cases.push((format!("probe {}", probe.id), took, ended));
    }
    let ended = match (variant.outcome, variant.recovered || kept) {
        (Outcome::AsExpected, true) => Ended::Well,
        (Outcome::Inconclusive, true) => Ended::Inconclusive(variant.why.join("; ")),
        _ => Ended::Failed(variant.why.join("; ")),
    };
    cases.push(("outcome".into(), variant.took_ms, ended));
    cases
}

/// Writes a run. Writing to a String does not fail.
pub fn scenario_junit(document: &RunResult) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    let name = escaped(&document.scenario);
    // The schema wants a time without a zone; it is UTC.
    let begun: String = document.started_at.chars().take(19).collect();
    let variants = document.worlds.iter().flat_map(|world| {
        let one = move |variant| (world.world.as_str(), variant);
        world.variants.iter().map(one)
    });
    for (id, (world, variant)) in variants.enumerate() {
        let cases = cases(variant, !document.kept.is_empty());
        let count = |wanted: fn(&Ended) -> bool| {
            let all = cases.iter();
            all.filter(|(_, _, ended)| wanted(ended)).count()
        };
        let class = format!("{name}.{}", escaped(&variant.name));
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{class}\" package=\"{name}\" id=\"{id}\" timestamp=\"{}\" hostname=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"0\" time=\"{}\">\n    <properties>\n      <property name=\"run\" value=\"{}\"/>\n      <property name=\"seed\" value=\"{}\"/>\n    </properties>",
            escaped(&begun),
            escaped(world),
            cases.len(),
            count(|ended| matches!(ended, Ended::Failed(_))),
            count(|ended| matches!(ended, Ended::Inconclusive(_))),
            time(variant.took_ms),
            escaped(&document.run),
            document.seed
        );
        for (case, took, ended) in &cases {
            let open = format!(
                "    <testcase name=\"{}\" classname=\"{class}\" time=\"{}\"",
                escaped(case),
                time(*took)
            );
            let _ = match ended {
                Ended::Well => writeln!(xml, "{open}/>"),
                Ended::Failed(why) => writeln!(
                    xml,
                    "{open}>\n      <failure type=\"unexpected\" message=\"{0}\">{0}</failure>\n    </testcase>",
                    escaped(why)
                ),
                Ended::Inconclusive(why) => writeln!(
                    xml,
                    "{open}>\n      <error type=\"inconclusive\" message=\"{0}\">{0}</error>\n    </testcase>",
                    escaped(why)
                ),
            };
        }
        let evidence = variant.probes.iter().flat_map(|probe| &probe.evidence);
        let lines: Vec<String> = evidence
            .map(|piece| format!("{}: {}", piece.source, piece.text))
            .collect();
        let _ = writeln!(
            xml,
            "    <system-out>{}</system-out>\n    <system-err/>\n  </testsuite>",
            escaped(&lines.join("\n"))
        );
    }
    xml.push_str("</testsuites>\n");
    xml
}
