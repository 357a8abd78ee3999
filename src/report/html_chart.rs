//! The pictures of the HTML report, as SVG.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::escape::escaped;
use super::outcomes::seconds;
use crate::scenario::{LookChange, LookState, MemorySample, ProbeResult, VariantResult};

/// The width of a picture, and of the names at its left, in its own units.
const WIDTH: f64 = 720.0;
const NAMES: f64 = 150.0;

/// The height of a line of the timeline, and of a chart.
const LINE: f64 = 22.0;
const CHART: f64 = 120.0;

/// Where a time is.
fn at(milliseconds: u64, end: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of a run are far below 2^52"
    )]
    let share = milliseconds as f64 / end.max(1) as f64;
    NAMES + share.min(1.0) * (WIDTH - NAMES - 10.0)
}

/// The end of all that a variant did.
fn end_of(variant: &VariantResult) -> u64 {
    let steps = variant.steps.iter().map(|step| step.at_ms + step.took_ms);
    let probes = variant.probes.iter().filter_map(|probe| probe.fired_ms);
    let samples = variant.samples.iter().map(|sample| sample.at_ms);
    let changes = variant.probes.iter().flat_map(|probe| &probe.changes);
    let changes = changes.map(|change| change.at_ms);
    let times = steps.chain(probes).chain(samples).chain(changes);
    times.max().unwrap_or(0).max(1)
}

/// Draws what was done when: a band from each act to its undo, or to the end where it was kept, and a mark where a probe fired.
pub(super) fn timeline(html: &mut String, variant: &VariantResult, kept: &[String], index: usize) {
    let acts: Vec<_> = variant
        .steps
        .iter()
        .filter(|step| !step.id.starts_with("undo ") && !step.id.starts_with("restore "))
        .collect();
    let fired: Vec<_> = variant
        .probes
        .iter()
        .filter(|probe| probe.looks == 0)
        .filter_map(|probe| Some((probe, probe.fired_ms?)))
        .collect();
    let watched = variant.probes.iter().filter(|probe| probe.looks > 0);
    let watched: Vec<_> = watched.collect();
    if acts.is_empty() {
        return;
    }
    let (unfired, unwatched) = (fired.is_empty(), watched.is_empty());
    let end = end_of(variant);
    #[expect(clippy::cast_precision_loss, reason = "some dozens of lines")]
    let height = (acts.len() + fired.len() + watched.len()) as f64 * LINE + 30.0;
    let _ = writeln!(
        html,
        "<h3>Timeline</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"t{index}\">\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"t{index} d{index}\">\n\
         <title id=\"t{index}\">Timeline of {}</title>\n<desc id=\"d{index}\">{}</desc>",
        escaped(&variant.name),
        escaped(&described(variant))
    );
    let mut top = 4.0;
    for step in acts {
        let undo = format!("undo {}", step.id);
        let undone = variant.steps.iter().find(|other| other.id == undo);
        let (from, done) = (at(step.at_ms, end), at(step.at_ms + step.took_ms, end));
        let _ = writeln!(
            html,
            "<text x=\"0\" y=\"{}\">{}</text>",
            top + 14.0,
            escaped(&step.id)
        );
        if let Some(undone) = undone {
            let until = at(undone.at_ms, end);
            let put_back = at(undone.at_ms + undone.took_ms, end);
            band(html, "fault", done, until, top);
            band(html, "undo", until, put_back, top);
        } else if kept.contains(&step.id) {
            band(html, "fault", done, at(end, end), top);
        }
        band(html, "step", from, done, top);
        top += LINE;
    }
    for (probe, ms) in fired {
        let x = at(ms, end);
        let _ = writeln!(
            html,
            "<text x=\"0\" y=\"{}\">{}</text>\n<circle class=\"probe\" cx=\"{x:.1}\" cy=\"{}\" r=\"5\"/>",
            top + 14.0,
            escaped(&probe.id),
            top + 10.0
        );
        top += LINE;
    }
    for probe in watched {
        looked(html, probe, top, end);
        top += LINE;
    }
    axis(html, top, end);
    html.push_str("</svg>\n</div>\n");
    legend(html, !unfired, !unwatched);
}

/// What the bands are: each has an edge of its own too, for those who do not tell the colours apart.
fn legend(html: &mut String, fired: bool, watched: bool) {
    let key = |class: &str, what: &str| {
        format!(
            "<span class=\"key\"><svg viewBox=\"0 0 24 12\" aria-hidden=\"true\"><rect class=\"{class}\" x=\"1\" y=\"1\" width=\"22\" height=\"10\" rx=\"2\"/></svg> {what}</span>"
        )
    };
    let all_the_time = |what: &str, looks: &str| {
        if watched {
            format!("{what}; {looks}")
        } else {
            what.to_owned()
        }
    };
    let dot = "<span class=\"key\"><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><circle class=\"probe\" cx=\"6\" cy=\"6\" r=\"5\"/></svg> a probe fired</span>";
    let _ = writeln!(
        html,
        "<p class=\"soft legend\">{} {} {} {}</p>",
        key("step", &all_the_time("being done", "could not look")),
        key("fault", &all_the_time("in place", "missed")),
        key("undo", &all_the_time("being put back", "held")),
        if fired { dot } else { "" }
    );
}

/// How long all tasks waited for memory between the first sample and the last; after a boot it counts from zero.
fn waited_us(samples: &[&MemorySample]) -> u64 {
    let totals: Vec<u64> = samples
        .iter()
        .filter_map(|sample| sample.psi_full_total_us)
        .collect();
    let rise = |pair: &[u64]| pair[1].checked_sub(pair[0]).unwrap_or(pair[1]);
    totals.windows(2).map(rise).sum()
}

/// A band for each time in which a probe that looks all the time saw the same.
fn looked(html: &mut String, probe: &ProbeResult, top: f64, end: u64) {
    let _ = writeln!(
        html,
        "<text x=\"0\" y=\"{}\">{}</text>",
        top + 14.0,
        escaped(&probe.id)
    );
    let ends = probe.changes.iter().skip(1).map(|change| change.at_ms);
    for (change, until) in probe.changes.iter().zip(ends.chain([end])) {
        let class = match change.state {
            LookState::Held => "undo",
            LookState::Missed => "fault",
            LookState::Unknown => "step",
        };
        band(html, class, at(change.at_ms, end), at(until, end), top);
    }
}

fn band(html: &mut String, class: &str, from: f64, to: f64, top: f64) {
    let width = (to - from).max(2.0);
    let _ = writeln!(
        html,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\"/>",
        LINE - 4.0
    );
}

fn axis(html: &mut String, top: f64, end: u64) {
    let (left, right) = (NAMES, WIDTH - 10.0);
    let _ = writeln!(
        html,
        "<line class=\"axis\" x1=\"{left}\" y1=\"{top}\" x2=\"{right}\" y2=\"{top}\"/>\n\
         <text x=\"{left}\" y=\"{}\">0</text>\n<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        top + 16.0,
        top + 16.0,
        seconds(end)
    );
}

/// The timeline in words, for those who do not see it.
fn described(variant: &VariantResult) -> String {
    let steps = variant.steps.iter().map(|step| {
        let (at, took) = (seconds(step.at_ms), seconds(step.took_ms));
        format!("{} at {at} for {took}", step.id)
    });
    let probes = variant.probes.iter().filter_map(|probe| {
        let at = seconds(probe.fired_ms?);
        Some(format!("{} fired at {at}", probe.id))
    });
    let changes = variant.probes.iter().flat_map(|probe| {
        let told = |change: &LookChange| {
            format!(
                "{} {} from {}",
                probe.id,
                change.state,
                seconds(change.at_ms)
            )
        };
        probe.changes.iter().map(told)
    });
    let all = steps.chain(probes).chain(changes);
    all.collect::<Vec<_>>().join("; ")
}

/// Draws each watched host's available memory and memory pressure, with the kernel's kills.
pub(super) fn memory(html: &mut String, variant: &VariantResult, index: usize) {
    let hosts: BTreeSet<&str> = variant
        .samples
        .iter()
        .map(|sample| sample.host.as_str())
        .collect();
    for (number, host) in hosts.into_iter().enumerate() {
        let samples: Vec<&MemorySample> = variant
            .samples
            .iter()
            .filter(|sample| sample.host == host)
            .collect();
        chart(html, variant, host, &samples, &format!("{index}-{number}"));
    }
}

fn chart(
    html: &mut String,
    variant: &VariantResult,
    host: &str,
    samples: &[&MemorySample],
    id: &str,
) {
    let end = end_of(variant);
    let most = samples
        .iter()
        .map(|sample| sample.total_bytes)
        .max()
        .unwrap_or(0)
        .max(1);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of memory needs no more digits"
    )]
    let share = |bytes: u64| bytes as f64 / most as f64;
    let y = |share: f64| 6.0 + (1.0 - share.clamp(0.0, 1.0)) * CHART;
    let points = |value: &dyn Fn(&MemorySample) -> Option<f64>| -> String {
        let points = samples.iter().filter_map(|sample| {
            let share = value(sample)?;
            Some(format!("{:.1},{:.1}", at(sample.at_ms, end), y(share)))
        });
        points.collect::<Vec<_>>().join(" ")
    };
    let lowest = samples.iter().map(|sample| sample.available_bytes).min();
    let pressed = samples
        .iter()
        .filter_map(|sample| sample.psi_full_avg10)
        .fold(0.0, f64::max);
    let mut before = samples.first().map_or(0, |sample| sample.oom_kills);
    let mut kills = Vec::new();
    for sample in samples {
        if sample.oom_kills > before {
            kills.push(sample.at_ms);
        }
        before = sample.oom_kills;
    }
    let host = escaped(host);
    let waited = waited_us(samples);
    let swap = samples.iter().map(|sample| sample.swap_total_bytes).max();
    let swap = match swap.unwrap_or(0) {
        0 => "no swap".to_owned(),
        total => {
            let used = samples.iter().map(|sample| sample.swap_used_bytes).max();
            format!(
                "swap used up to {} of {} MiB",
                used.unwrap_or(0) >> 20,
                total >> 20
            )
        }
    };
    let description = format!(
        "{} samples; at the least {} MiB available, memory pressure up to {pressed:.1} percent, {} ms waited for memory; {swap}; {} kills by the kernel",
        samples.len(),
        lowest.unwrap_or(0) >> 20,
        waited / 1000,
        kills.len()
    );
    let _ = writeln!(
        html,
        "<h3>Memory of {host}</h3>\n<p class=\"soft\">Line: memory available, of {} MiB. Dashed: memory pressure (PSI full, avg10), in percent. Upright: a kill by the kernel. In all: {description}.</p>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"mt{id}\">\n<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-labelledby=\"mt{id} md{id}\">\n<title id=\"mt{id}\">Memory of {host}</title>\n<desc id=\"md{id}\">{description}</desc>",
        most >> 20,
        CHART + 30.0
    );
    let _ = writeln!(
        html,
        "<text x=\"0\" y=\"16\">100 %</text>\n<text x=\"0\" y=\"{}\">0 %</text>\n<polyline class=\"memory\" points=\"{}\"/>\n<polyline class=\"pressure\" points=\"{}\"/>",
        CHART + 6.0,
        points(&|sample| Some(share(sample.available_bytes))),
        points(&|sample| sample.psi_full_avg10.map(|percent| percent / 100.0))
    );
    for kill in kills {
        let x = at(kill, end);
        let _ = writeln!(
            html,
            "<line class=\"kill\" x1=\"{x:.1}\" y1=\"6\" x2=\"{x:.1}\" y2=\"{}\"/>",
            CHART + 6.0
        );
    }
    axis(html, CHART + 6.0, end);
    html.push_str("</svg>\n</div>\n");
}
