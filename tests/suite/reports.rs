//! Reports of a run: one HTML file that needs nothing else, and `JUnit` XML.

use twin::report::{scenario_html, scenario_junit, scenario_text};
use twin::scenario::{
    Evidence, LookChange, MemorySample, Outcome, ProbeResult, RunResult, StepResult, TargetHost,
    VariantResult, Verdict, WorldResult,
};

/// Text that would break out of anything that does not escape it.
const HOSTILE: &str = "</pre><script>alert('x')</script> & \"quoted\" \u{1b}[31m";

/// What documents mean by a word.
fn word<T: serde::de::DeserializeOwned>(word: &str) -> T {
    serde_json::from_value(word.into()).unwrap()
}

fn sample(at_ms: u64, oom_kills: u64) -> MemorySample {
    MemorySample {
        host: "openstack1".into(),
        at_ms,
        total_bytes: 2 << 30,
        available_bytes: (2 << 30) - (at_ms << 18),
        psi_full_avg10: Some(12.5),
        psi_full_total_us: Some(at_ms * 10),
        swap_total_bytes: 1 << 30,
        swap_used_bytes: at_ms << 20,
        oom_kills,
    }
}

fn step(id: &str, result: &str, at_ms: u64) -> StepResult {
    StepResult {
        id: id.into(),
        what: "do it".into(),
        result: word(result),
        detail: HOSTILE.into(),
        at_ms,
        took_ms: 500,
    }
}

fn probe(id: &str, expected: &str, result: &str) -> ProbeResult {
    ProbeResult {
        id: id.into(),
        expected: Some(word(expected)),
        result: word(result),
        fired_ms: (result == "fired").then_some(1500),
        looks: 0,
        missed: 0,
        missed_in_row: 0,
        changes: Vec::new(),
        evidence: vec![Evidence {
            source: "the kernel".into(),
            text: HOSTILE.into(),
        }],
    }
}

fn continuous() -> ProbeResult {
    let changes = [(0, "held"), (700, "missed"), (1400, "held")];
    let changes = changes.map(|(at_ms, state)| LookChange {
        at_ms,
        state: word(state),
    });
    ProbeResult {
        looks: 9,
        missed: 3,
        missed_in_row: 3,
        changes: changes.into(),
        ..probe("all-the-time", "always", "missed")
    }
}

fn document() -> RunResult {
    let variant = VariantResult {
        name: "bug".into(),
        targets: vec![TargetHost {
            host: "a".into(),
            domain: "lab-a".into(),
            uuid: "u-1".into(),
        }],
        outcome: Outcome::Unexpected,
        why: vec!["quiet-one fired, and never should".into()],
        injected: true,
        recovered: true,
        mttr_ms: Some(900),
        probes: vec![
            probe("good", "fires", "fired"),
            probe("wrong", "never", "fired"),
            probe("blind", "fires", "unknown"),
            continuous(),
            probe("went-on", "always", "held"),
        ],
        steps: vec![
            step("cut", "verified", 100),
            step("undo cut", "undone", 3000),
            step("none", "no-effect", 700),
        ],
        samples: vec![sample(0, 0), sample(1000, 0), sample(2000, 1)],
        took_ms: 4000,
    };
    RunResult {
        time_scale: Some(10),
        schema: "twin/scenario-result/v1".into(),
        run: "abc".into(),
        scenario: "s".into(),
        title: HOSTILE.into(),
        seed: 7,
        worlds: vec![WorldResult {
            world: "lab".into(),
            variants: vec![variant],
        }],
        agreement: None,
        verdict: Verdict::Fail,
        stand_ins: vec!["a process for a service".into()],
        left: Vec::new(),
        kept: Vec::new(),
        baseline: None,
        started_at: "2026-01-01T00:00:00.5Z".into(),
        took_ms: 4000,
    }
}

#[test]
fn html_needs_nothing_else_and_lets_nothing_out() {
    let html = scenario_html(&document());
    for refused in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(refused), "{refused}");
    }
    assert!(html.contains("&lt;script&gt;") && !html.contains('\u{1b}'));
    // What a browser needs for a phone, for the dark, for paper, and for those who do not see it.
    for wanted in [
        "lang=\"en\"",
        "width=device-width",
        "prefers-color-scheme: dark",
        "@media print",
        "<caption>",
        "role=\"img\"",
        "<desc",
        "1 kills by the kernel",
        "20 ms waited for memory",
        "swap used up to 2000 of 1024 MiB",
        "class=\"fault\"",
        "class=\"kill\"",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    // Everything that is opened is closed, in order: but for the void tags it is XML.
    let body = html.split_once("<body>").unwrap().1;
    let body = format!("<body>{}", body.replace("</html>", ""));
    let parsed = roxmltree::Document::parse(&body);
    assert!(parsed.is_ok(), "{parsed:?}");
}

#[test]
fn variants_are_beside_one_another() {
    let mut document = document();
    assert!(!scenario_text(&document).contains("when each probe fired"));
    let variants = &mut document.worlds[0].variants;
    let mut fix = variants[0].clone();
    (fix.name, fix.outcome) = ("fix".into(), Outcome::AsExpected);
    fix.probes = vec![
        probe("kill", "never", "quiet"),
        probe("quiet-one", "never", "fired"),
    ];
    variants[0].probes = vec![
        probe("kill", "fires", "fired"),
        probe("quiet-one", "never", "quiet"),
    ];
    variants.push(fix);
    // One that could not begin has no probes.
    let mut ill = variants[0].clone();
    (ill.name, ill.probes) = ("ill".into(), Vec::new());
    variants.insert(0, ill);
    let text = scenario_text(&document);
    let (_, table) = text.split_once("when each probe fired").unwrap();
    let line = |name: &str| {
        let mut lines = table.lines();
        let found = lines.find(|line| line.trim_start().starts_with(name));
        found
            .unwrap()
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("outcome"), "unexpected ! unexpected ! as expected");
    assert_eq!(line("kill"), "- 1.5 s never");
    assert_eq!(line("quiet-one"), "- never 1.5 s !");
    let html = scenario_html(&document);
    assert!(html.contains("<tr><th scope=\"row\">kill</th><td class=\"soft\">-</td><td class=\"good\">1.5 s</td><td class=\"good\">never</td></tr>"), "{html}");
    assert!(
        html.contains("<td class=\"bad\">1.5 s, not expected</td>"),
        "{html}"
    );
}

/// The band of a fault that is left in place goes on to the end.
#[test]
fn a_kept_fault_has_a_band() {
    let mut kept = document();
    let steps = &mut kept.worlds[0].variants[0].steps;
    steps.retain(|step| step.id != "undo cut");
    let bands = |html: &str| html.matches("<rect class=\"fault\"").count();
    let without = bands(&scenario_html(&kept));
    kept.kept = vec!["cut".into()];
    assert_eq!(bands(&scenario_html(&kept)), without + 1);
}

/// Who leaves a fault in place is told so, and what ends it; and a run as expected is no failure for it.
#[test]
fn what_is_kept_in_place_is_told() {
    let mut kept = document();
    assert!(!scenario_text(&kept).contains("KEPT"));
    kept.kept = vec!["cut".into()];
    kept.verdict = Verdict::Pass;
    let variant = &mut kept.worlds[0].variants[0];
    (variant.outcome, variant.recovered) = (Outcome::AsExpected, false);
    variant.probes.retain(|probe| probe.id == "good");
    variant.steps.retain(|step| step.id == "cut");
    variant.why.clear();
    let text = scenario_text(&kept);
    assert!(text.contains("KEPT  cut: in place"), "{text}");
    assert!(text.contains("`twin recover` ends it"), "{text}");
    let failures = |document: &RunResult| scenario_junit(document).matches("<failure").count();
    assert_eq!(failures(&kept), 0);
    kept.kept.clear();
    assert_eq!(failures(&kept), 1);
}

/// A host that has booted meanwhile counts from zero.
#[test]
fn what_was_waited_for_memory_is_counted_over_a_boot() {
    let mut booted = document();
    let samples = &mut booted.worlds[0].variants[0].samples;
    for (sample, total) in samples.iter_mut().zip([9_000, 12_000, 4_000]) {
        sample.psi_full_total_us = Some(total);
    }
    let html = scenario_html(&booted);
    assert!(html.contains(" 7 ms waited for memory"), "{html}");
}

#[test]
fn junit_counts_what_it_holds() {
    let xml = scenario_junit(&document());
    let parsed = roxmltree::Document::parse(&xml).unwrap();
    let suite = parsed
        .descendants()
        .find(|node| node.has_tag_name("testsuite"))
        .unwrap();
    let count = |name: &str| {
        let nodes = suite.descendants();
        nodes.filter(|node| node.has_tag_name(name)).count()
    };
    assert_eq!(suite.attribute("tests"), Some("9"));
    assert_eq!(count("testcase"), 9);
    assert_eq!(suite.attribute("failures"), Some("3"));
    assert_eq!(count("failure"), 3);
    // An action without effect, and a probe that could not look: a run that proves nothing is not green.
    assert_eq!(suite.attribute("errors"), Some("2"));
    assert_eq!(count("error"), 2);
    assert_eq!(suite.attribute("timestamp"), Some("2026-01-01T00:00:00"));
    assert_eq!(suite.attribute("time"), Some("4.000"));
}

/// By a validator that is not twin's, against what CI systems read.
#[test]
fn junit_is_as_its_schema_has_it() {
    let mut kept = document();
    kept.worlds[0].variants[0].outcome = Outcome::Inconclusive;
    kept.worlds[0].variants[0].probes[0].evidence[0].text = "\u{fffe}\u{0}\u{b} <&> ]]>".into();
    let mut empty = document();
    empty.worlds[0].variants.clear();
    let schema = crate::support::root().join("tests/report/junit.xsd");
    let directory = tempfile::tempdir().unwrap();
    let valid = |xml: &str| {
        let file = directory.path().join("run.xml");
        std::fs::write(&file, xml).unwrap();
        let mut command = std::process::Command::new("xmllint");
        command
            .args(["--noout", "--nonet", "--schema"])
            .arg(&schema)
            .arg(&file);
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for one in [document(), kept, empty] {
        let xml = scenario_junit(&one);
        let (passes, said) = valid(&xml);
        assert!(passes, "{said}\n{xml}");
    }
    let broken = scenario_junit(&document()).replace(" time=\"4.000\"", "");
    assert!(!valid(&broken).0, "the validator lets anything pass");
}
