//! A run as `JUnit` XML: a suite a variant, a case a step or probe with an expectation.
//!
//! Written by quick-xml's writer: quick-junit gives `testsuites` attributes and times a zone, which the schema that CI systems
//! go by (`tests/report/junit.xsd`) has not, and leaves out what that asks for.

use std::io;

use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::writer::Writer;

use super::plain::printable;
use crate::scenario::{Outcome, RunResult, StepOutcome, VariantResult};

/// How a case ended.
enum Ended {
    Well,
    Failed(String),
    /// What was seen does not decide it.
    Inconclusive(String),
}

/// A step or a probe.
struct Case {
    name: String,
    took_ms: u64,
    ended: Ended,
}

/// Seconds with milliseconds, as the schema has them.
fn time(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// The cases of a variant. What was kept in place on purpose is no failure.
fn cases(variant: &VariantResult, kept: bool) -> Vec<Case> {
    let steps = variant.steps.iter().map(|step| {
        let what = || format!("{}: {}", step.result, step.detail);
        let ended = match step.result {
            StepOutcome::Verified | StepOutcome::Undone => Ended::Well,
            StepOutcome::NoEffect => Ended::Inconclusive(what()),
            StepOutcome::Failed | StepOutcome::Left => Ended::Failed(what()),
        };
        let name = format!("step {}", step.id);
        let took_ms = step.took_ms;
        Case {
            name,
            took_ms,
            ended,
        }
    });
    let probes = variant.probes.iter().filter_map(|probe| {
        let expected = probe.expected?;
        let ended = match probe.as_expected() {
            Some(true) => Ended::Well,
            Some(false) => Ended::Failed(format!("{}, and expected: {expected}", probe.result)),
            None => Ended::Inconclusive("it could not look".into()),
        };
        Some(Case {
            name: format!("probe {}", probe.id),
            took_ms: probe.fired_ms.unwrap_or(0),
            ended,
        })
    });
    let ended = match (variant.outcome, variant.recovered || kept) {
        (Outcome::AsExpected, true) => Ended::Well,
        (Outcome::Inconclusive, true) => Ended::Inconclusive(variant.why.join("; ")),
        _ => Ended::Failed(variant.why.join("; ")),
    };
    let outcome = Case {
        name: "outcome".into(),
        took_ms: variant.took_ms,
        ended,
    };
    steps.chain(probes).chain([outcome]).collect()
}

type Xml = Writer<Vec<u8>>;

fn case(xml: &mut Xml, class: &str, case: &Case) -> io::Result<()> {
    let (name, took) = (printable(&case.name), time(case.took_ms));
    let element = xml.create_element("testcase").with_attributes([
        ("name", name.as_ref()),
        ("classname", class),
        ("time", &took),
    ]);
    let (tag, kind, why) = match &case.ended {
        Ended::Well => return element.write_empty().map(drop),
        Ended::Failed(why) => ("failure", "unexpected", printable(why)),
        Ended::Inconclusive(why) => ("error", "inconclusive", printable(why)),
    };
    element
        .write_inner_content(|xml| {
            xml.create_element(tag)
                .with_attributes([("type", kind), ("message", why.as_ref())])
                .write_text_content(BytesText::new(&why))
                .map(drop)
        })
        .map(drop)
}

fn suite(
    xml: &mut Xml,
    result: &RunResult,
    (id, world): (usize, &str),
    variant: &VariantResult,
) -> io::Result<()> {
    let cases = cases(variant, !result.kept.is_empty());
    let count = |wanted: fn(&Ended) -> bool| {
        let wanted = cases.iter().filter(|case| wanted(&case.ended));
        wanted.count().to_string()
    };
    let scenario = printable(&result.scenario);
    let class = format!("{scenario}.{}", printable(&variant.name));
    // The schema wants a time without a zone; it is UTC.
    let begun: String = result.started_at.chars().take(19).collect();
    let evidence = variant.probes.iter().flat_map(|probe| &probe.evidence);
    let lines: Vec<String> = evidence
        .map(|piece| format!("{}: {}", piece.source, piece.text))
        .collect();
    let (lines, run) = (lines.join("\n"), printable(&result.run));
    xml.create_element("testsuite")
        .with_attributes([
            ("name", class.as_str()),
            ("package", &scenario),
            ("id", &id.to_string()),
            ("timestamp", &printable(&begun)),
            ("hostname", &printable(world)),
            ("tests", &cases.len().to_string()),
            (
                "failures",
                &count(|ended| matches!(ended, Ended::Failed(_))),
            ),
            (
                "errors",
                &count(|ended| matches!(ended, Ended::Inconclusive(_))),
            ),
            ("skipped", "0"),
            ("time", &time(variant.took_ms)),
        ])
        .write_inner_content(|xml| {
            xml.create_element("properties")
                .write_inner_content(|xml| {
                    for (name, value) in [("run", run.as_ref()), ("seed", &result.seed.to_string())]
                    {
                        xml.create_element("property")
                            .with_attributes([("name", name), ("value", value)])
                            .write_empty()?;
                    }
                    Ok(())
                })?;
            for one in &cases {
                case(xml, &class, one)?;
            }
            xml.create_element("system-out")
                .write_text_content(BytesText::new(&printable(&lines)))?;
            xml.create_element("system-err").write_empty().map(drop)
        })
        .map(drop)
}

fn write(xml: &mut Xml, result: &RunResult) -> io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let variants = result.worlds.iter().flat_map(|world| {
        let one = |variant| (world.world.as_str(), variant);
        world.variants.iter().map(one)
    });
    xml.create_element("testsuites")
        .write_inner_content(|xml| {
            for (id, (world, variant)) in variants.enumerate() {
                suite(xml, result, (id, world), variant)?;
            }
            Ok(())
        })
        .map(drop)
}

/// Writes a run.
pub fn scenario_junit(result: &RunResult) -> String {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing to memory does not fail.
    let _ = write(&mut xml, result);
    let mut text = String::from_utf8_lossy(&xml.into_inner()).into_owned();
    text.push('\n');
    text
}
