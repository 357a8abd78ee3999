//! A run as one HTML file that needs nothing else: no script, no network.

use std::fmt::Write as _;

use super::escape::escaped;
use super::html_chart::{memory, timeline};
use super::outcomes::{Outcomes, outcomes, seconds};
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

/// Writes a run's report. Writing to a String does not fail, here and below.
pub fn scenario_html(document: &RunResult) -> String {
    let title = escaped(&format!("{}: {}", document.scenario, document.title));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
    );
    let _ = writeln!(
        html,
        "<p class=\"verdict {}\">Verdict: {}</p>\n<p class=\"soft\">Run {}, seed {}{}, begun {}, took {}.</p>\n</header>\n<main>",
        class_of(document.verdict),
        document.verdict.as_str(),
        escaped(&document.run),
        document.seed,
        time_scale(document),
        escaped(&document.started_at),
        seconds(document.took_ms)
    );
    list(
        &mut html,
        "Not put back: run twin recover",
        &document.left,
        "bad",
    );
    list(
        &mut html,
        "Left in place on purpose: twin recover puts it back",
        &document.kept,
        "open",
    );
    if let Some(baseline) = &document.baseline {
        let name = escaped(baseline);
        let _ = writeln!(
            html,
            "<p>The baseline <code>{name}</code> from before the run is kept: <code>twin restore {name}</code> goes back to it.</p>"
        );
    }
    for world in &document.worlds {
        beside(&mut html, world);
        html.push_str("<div class=\"variants\">\n");
        for (index, one) in world.variants.iter().enumerate() {
            variant(&mut html, document, &world.world, one, index);
        }
        html.push_str("</div>\n");
    }
    list(
        &mut html,
        "What stood in for what",
        &document.stand_ins,
        "soft",
    );
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn list(html: &mut String, heading: &str, lines: &[String], class: &str) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(html, "<h2>{heading}</h2>\n<ul class=\"{class}\">");
    for line in lines {
        let _ = writeln!(html, "<li>{}</li>", escaped(line));
    }
    html.push_str("</ul>\n");
}

fn variant(
    html: &mut String,
    document: &RunResult,
    world: &str,
    one: &VariantResult,
    index: usize,
) {
    let (words, class) = outcome_words(one.outcome);
    let name = escaped(&one.name);
    let _ = writeln!(
        html,
        "<section class=\"variant\" aria-labelledby=\"v{index}\">\n<h2 id=\"v{index}\">{name} in {}: <span class=\"{class}\">{words}</span></h2>",
        escaped(world)
    );
    let recovered = match (one.recovered, one.mttr_ms) {
        (true, Some(mttr)) => format!("recovered {} after the first undo", seconds(mttr)),
        (true, None) => "as it was".to_owned(),
        (false, _) => "not recovered".to_owned(),
    };
    let _ = writeln!(
        html,
        "<p class=\"soft\">Took {}, {recovered}.</p>",
        seconds(one.took_ms)
    );
    for why in &one.why {
        let _ = writeln!(html, "<p class=\"{class}\">{}</p>", escaped(why));
    }
    for target in &one.targets {
        let _ = writeln!(
            html,
            "<p class=\"soft\">Acts on {}: domain {}, {}.</p>",
            escaped(&target.host),
            escaped(&target.domain),
            escaped(&target.uuid)
        );
    }
    timeline(html, one, &document.kept, index);
    memory(html, one, index);
    steps(html, &name, &one.steps);
    html.push_str("<h3>Probes</h3>\n");
    for found in &one.probes {
        probe(html, found);
    }
    html.push_str("</section>\n");
}

/// The variants beside one another, a column each.
fn beside(html: &mut String, world: &WorldResult) {
    let Some(Outcomes { variants, lines }) = outcomes(world) else {
        return;
    };
    let world = escaped(&world.world);
    let heads: String = variants
        .iter()
        .map(|name| format!("<th scope=\"col\">{}</th>", escaped(name)))
        .collect();
    let _ = writeln!(
        html,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Outcomes in {world}\">\n<table class=\"outcomes\">\n\
         <caption>When each probe fired in {world}, since the variant began</caption>\n\
         <thead><tr><th scope=\"col\">Probe</th>{heads}</tr></thead>\n<tbody>"
    );
    for (name, cells) in &lines {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escaped(name));
        for cell in cells {
            let (class, mark) = match cell.right {
                Some(true) => ("good", ""),
                Some(false) => ("bad", ", not expected"),
                None => ("soft", ""),
            };
            let words = escaped(&cell.words);
            let _ = write!(html, "<td class=\"{class}\">{words}{mark}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

fn steps(html: &mut String, variant: &str, steps: &[StepResult]) {
    // The roles are those of the elements; a browser forgets them where the style lays rows out anew, on a phone.
    let heads: String = ["Step", "Result", "At", "Took", "Seen"]
        .iter()
        .map(|head| format!("<th role=\"columnheader\" scope=\"col\">{head}</th>"))
        .collect();
    let _ = writeln!(
        html,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Steps of {variant}\">\n<table role=\"table\">\n<caption>Steps</caption>\n\
         <thead role=\"rowgroup\"><tr role=\"row\">{heads}</tr></thead>\n<tbody role=\"rowgroup\">"
    );
    for step in steps {
        let class = match step.result {
            StepOutcome::Verified | StepOutcome::Undone => "good",
            StepOutcome::NoEffect => "open",
            _ => "bad",
        };
        let _ = writeln!(
            html,
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}</th><td role=\"cell\" class=\"{class}\">{}</td>\
             <td role=\"cell\" class=\"number\">{}</td><td role=\"cell\" class=\"number\">{}</td><td role=\"cell\">{}</td></tr>",
            escaped(&step.id),
            step.result,
            seconds(step.at_ms),
            seconds(step.took_ms),
            escaped(&step.detail)
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

fn probe(html: &mut String, found: &ProbeResult) {
    let class = match found.as_expected() {
        Some(true) => "good",
        Some(false) => "bad",
        None if found.expected.is_some() => "open",
        None => "soft",
    };
    let expected = found
        .expected
        .as_ref()
        .map_or_else(String::new, |expected| format!(", expected: {expected}"));
    let at = found
        .fired_ms
        .map_or_else(String::new, |at| format!(" at {}", seconds(at)));
    let _ = writeln!(
        html,
        "<p><strong>{}</strong>: <span class=\"{class}\">{}{at}</span><span class=\"soft\">{}{}</span></p>",
        escaped(&found.id),
        found.result,
        escaped(&expected),
        escaped(&looks(found))
    );
    for evidence in &found.evidence {
        let _ = writeln!(
            html,
            "<p class=\"soft\">{}</p>\n<pre>{}</pre>",
            escaped(&evidence.source),
            escaped(&evidence.text)
        );
    }
}
