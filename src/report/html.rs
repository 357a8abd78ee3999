//! A run as one HTML file that needs nothing else: no script, no network.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::html_chart::{memory, timeline};
use super::outcomes::{Cell, Outcomes, outcomes, seconds};
use super::plain::Plain;
use super::scenario_text::{looks, time_scale};
use crate::scenario::{
    Outcome, ProbeResult, RunResult, StepOutcome, StepResult, VariantResult, Verdict, WorldResult,
};

const STYLE: &str = include_str!("style.css");

const fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "good",
        Verdict::Fail | Verdict::Dirty => "bad",
        Verdict::Inconclusive => "open",
    }
}

const fn outcome_words(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::AsExpected => ("as expected", "good"),
        Outcome::Unexpected => ("unexpected", "bad"),
        Outcome::Inconclusive => ("inconclusive", "open"),
    }
}

/// Writes a run's report.
pub fn scenario_html(result: &RunResult) -> String {
    let title = format!("{}: {}", result.scenario, result.title);
    let (verdict, seed) = (result.verdict, result.seed);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (Plain(&title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (Plain(&title)) }
                    p class={ "verdict " (class_of(verdict)) } { "Verdict: " (verdict.as_str()) }
                    p.soft {
                        "Run " (Plain(&result.run)) ", seed " (seed) (time_scale(result)) ", begun "
                        (Plain(&result.started_at)) ", took " (seconds(result.took_ms)) "."
                    }
                }
                main {
                    (list("Not put back: run twin recover", &result.left, "bad"))
                    (list("Left in place on purpose: twin recover puts it back", &result.kept, "open"))
                    @if let Some(baseline) = &result.baseline {
                        p {
                            "The baseline " code { (Plain(baseline)) } " from before the run is kept: "
                            code { "twin restore " (Plain(baseline)) } " goes back to it."
                        }
                    }
                    @for world in &result.worlds {
                        (beside(world))
                        div.variants {
                            @for (index, one) in world.variants.iter().enumerate() {
                                (variant(result, &world.world, one, index))
                            }
                        }
                    }
                    (list("What stood in for what", &result.stand_ins, "soft"))
                }
            }
        }
    };
    page.into_string()
}

fn list(heading: &str, lines: &[String], class: &str) -> Markup {
    html! {
        @if !lines.is_empty() {
            h2 { (heading) }
            ul class=(class) { @for line in lines { li { (Plain(line)) } } }
        }
    }
}

fn variant(result: &RunResult, world: &str, one: &VariantResult, index: usize) -> Markup {
    let (words, class) = outcome_words(one.outcome);
    let recovered = match (one.recovered, one.mttr_ms) {
        (true, Some(mttr)) => format!("recovered {} after the first undo", seconds(mttr)),
        (true, None) => "as it was".to_owned(),
        (false, _) => "not recovered".to_owned(),
    };
    html! {
        section.variant aria-labelledby={ "v" (index) } {
            h2 id={ "v" (index) } {
                (Plain(&one.name)) " in " (Plain(world)) ": " span class=(class) { (words) }
            }
            p.soft { "Took " (seconds(one.took_ms)) ", " (recovered) "." }
            @for why in &one.why { p class=(class) { (Plain(why)) } }
            @for target in &one.targets {
                p.soft {
                    "Acts on " (Plain(&target.host)) ": domain " (Plain(&target.domain)) ", "
                    (Plain(&target.uuid)) "."
                }
            }
            (timeline(one, &result.kept, index))
            (memory(one, index))
            (steps(&one.name, &one.steps))
            h3 { "Probes" }
            @for found in &one.probes { (probe(found)) }
        }
    }
}

fn cell(cell: &Cell) -> Markup {
    let (class, mark) = match cell.right {
        Some(true) => ("good", ""),
        Some(false) => ("bad", ", not expected"),
        None => ("soft", ""),
    };
    html! { td class=(class) { (Plain(&cell.words)) (mark) } }
}

/// The variants beside one another, a column each.
fn beside(world: &WorldResult) -> Markup {
    let Some(Outcomes { variants, lines }) = outcomes(world) else {
        return Markup::default();
    };
    let world = Plain(&world.world);
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Outcomes in " (world) } {
            table.outcomes {
                caption { "When each probe fired in " (world) ", since the variant began" }
                thead {
                    tr {
                        th scope="col" { "Probe" }
                        @for name in &variants { th scope="col" { (Plain(name)) } }
                    }
                }
                tbody {
                    @for (name, cells) in &lines {
                        tr {
                            th scope="row" { (Plain(name)) }
                            @for one in cells { (cell(one)) }
                        }
                    }
                }
            }
        }
    }
}

fn steps(variant: &str, steps: &[StepResult]) -> Markup {
    let class = |step: &StepResult| match step.result {
        StepOutcome::Verified | StepOutcome::Undone => "good",
        StepOutcome::NoEffect => "open",
        StepOutcome::Failed | StepOutcome::Left => "bad",
    };
    // The roles are those of the elements; a browser forgets them where the style lays rows out anew, on a phone.
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Steps of " (Plain(variant)) } {
            table role="table" {
                caption { "Steps" }
                thead role="rowgroup" {
                    tr role="row" {
                        @for head in ["Step", "Result", "At", "Took", "Seen"] {
                            th role="columnheader" scope="col" { (head) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for step in steps {
                        tr role="row" {
                            th role="rowheader" scope="row" { (Plain(&step.id)) }
                            td role="cell" class=(class(step)) { (step.result.as_str()) }
                            td.number role="cell" { (seconds(step.at_ms)) }
                            td.number role="cell" { (seconds(step.took_ms)) }
                            td role="cell" { (Plain(&step.detail)) }
                        }
                    }
                }
            }
        }
    }
}

fn probe(found: &ProbeResult) -> Markup {
    let class = match found.as_expected() {
        Some(true) => "good",
        Some(false) => "bad",
        None if found.expected.is_some() => "open",
        None => "soft",
    };
    html! {
        p {
            strong { (Plain(&found.id)) } ": "
            span class=(class) {
                (found.result.as_str())
                @if let Some(at) = found.fired_ms { " at " (seconds(at)) }
            }
            span.soft {
                @if let Some(expected) = found.expected { ", expected: " (expected.as_str()) }
                (Plain(&looks(found)))
            }
        }
        @for evidence in &found.evidence {
            p.soft { (Plain(&evidence.source)) }
            pre { (Plain(&evidence.text)) }
        }
    }
}
