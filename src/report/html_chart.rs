//! The pictures of the HTML report, as SVG.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::outcomes::seconds;
use super::plain::Plain;
use crate::scenario::{
    LookChange, LookState, MemorySample, ProbeResult, StepResult, VariantResult,
};

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

/// A name at the left of a line.
fn name(text: &str, top: f64) -> Markup {
    html! { text x="0" y=(top + 14.0) { (Plain(text)) } }
}

/// The band of an act: while it was done, until it was undone, or to the end where it was kept.
fn act(
    variant: &VariantResult,
    step: &StepResult,
    kept: &[String],
    (top, end): (f64, u64),
) -> Markup {
    let undo = format!("undo {}", step.id);
    let undone = variant.steps.iter().find(|other| other.id == undo);
    let (from, done) = (at(step.at_ms, end), at(step.at_ms + step.took_ms, end));
    html! {
        (name(&step.id, top))
        @if let Some(undone) = undone {
            (band("fault", done, at(undone.at_ms, end), top))
            (band("undo", at(undone.at_ms, end), at(undone.at_ms + undone.took_ms, end), top))
        } @else if kept.contains(&step.id) {
            (band("fault", done, at(end, end), top))
        }
        (band("step", from, done, top))
    }
}

/// Draws what was done when: a band from each act to its undo, or to the end where it was kept, and a mark where a probe fired.
pub(super) fn timeline(variant: &VariantResult, kept: &[String], index: usize) -> Markup {
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
        return Markup::default();
    }
    let end = end_of(variant);
    #[expect(clippy::cast_precision_loss, reason = "some dozens of lines")]
    let line = |number: usize| 4.0 + number as f64 * LINE;
    let (marks, bands) = (acts.len(), acts.len() + fired.len());
    let axis_at = line(bands + watched.len());
    html! {
        h3 { "Timeline" }
        div.scroll tabindex="0" role="region" aria-labelledby={ "t" (index) } {
            svg viewBox={ "0 0 " (WIDTH) " " (axis_at + 26.0) } role="img" aria-labelledby={ "t" (index) " d" (index) } {
                title id={ "t" (index) } { "Timeline of " (Plain(&variant.name)) }
                desc id={ "d" (index) } { (Plain(&described(variant))) }
                @for (number, step) in acts.iter().enumerate() {
                    (act(variant, step, kept, (line(number), end)))
                }
                @for (number, (probe, ms)) in fired.iter().enumerate() {
                    @let top = line(marks + number);
                    (name(&probe.id, top))
                    circle.probe cx=(format!("{:.1}", at(*ms, end))) cy=(top + 10.0) r="5" {}
                }
                @for (number, probe) in watched.iter().enumerate() {
                    (looked(probe, line(bands + number), end))
                }
                (axis(axis_at, end))
            }
        }
        (legend(!fired.is_empty(), !watched.is_empty()))
    }
}

/// What the bands are: each has an edge of its own too, for those who do not tell the colours apart.
fn legend(fired: bool, watched: bool) -> Markup {
    let key = |class: &str, what: &str, looks: &str| {
        html! {
            span.key {
                svg viewBox="0 0 24 12" aria-hidden="true" {
                    rect class=(class) x="1" y="1" width="22" height="10" rx="2" {}
                }
                " " (what)
                @if watched { "; " (looks) }
            }
            " "
        }
    };
    html! {
        p.soft.legend {
            (key("step", "being done", "could not look"))
            (key("fault", "in place", "missed"))
            (key("undo", "being put back", "held"))
            @if fired {
                span.key {
                    svg viewBox="0 0 12 12" aria-hidden="true" { circle.probe cx="6" cy="6" r="5" {} }
                    " a probe fired"
                }
            }
        }
    }
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
fn looked(probe: &ProbeResult, top: f64, end: u64) -> Markup {
    let ends = probe.changes.iter().skip(1).map(|change| change.at_ms);
    let class = |change: &LookChange| match change.state {
        LookState::Held => "undo",
        LookState::Missed => "fault",
        LookState::Unknown => "step",
    };
    html! {
        (name(&probe.id, top))
        @for (change, until) in probe.changes.iter().zip(ends.chain([end])) {
            (band(class(change), at(change.at_ms, end), at(until, end), top))
        }
    }
}

fn band(class: &str, from: f64, to: f64, top: f64) -> Markup {
    let width = format!("{:.1}", (to - from).max(2.0));
    html! {
        rect class=(class) x=(format!("{from:.1}")) y=(top) width=(width) height=(LINE - 4.0) rx="2" {}
    }
}

fn axis(top: f64, end: u64) -> Markup {
    let (left, right) = (NAMES, WIDTH - 10.0);
    html! {
        line.axis x1=(left) y1=(top) x2=(right) y2=(top) {}
        text x=(left) y=(top + 16.0) { "0" }
        text x=(right) y=(top + 16.0) text-anchor="end" { (seconds(end)) }
    }
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
pub(super) fn memory(variant: &VariantResult, index: usize) -> Markup {
    let hosts: BTreeSet<&str> = variant
        .samples
        .iter()
        .map(|sample| sample.host.as_str())
        .collect();
    let of = |host: &str| -> Vec<&MemorySample> {
        let samples = variant.samples.iter();
        samples.filter(|sample| sample.host == host).collect()
    };
    html! {
        @for (number, host) in hosts.iter().enumerate() {
            (chart(end_of(variant), host, &of(host), &format!("{index}-{number}")))
        }
    }
}

/// When the kernel killed a process: where the count has risen.
fn kills(samples: &[&MemorySample]) -> Vec<u64> {
    let risen = |pair: &[&MemorySample]| pair[1].oom_kills > pair[0].oom_kills;
    let pairs = samples.windows(2).filter(|pair| risen(pair));
    pairs.map(|pair| pair[1].at_ms).collect()
}

/// A chart in words.
fn in_words(samples: &[&MemorySample], kills: usize) -> String {
    let lowest = samples.iter().map(|sample| sample.available_bytes).min();
    let pressed = samples
        .iter()
        .filter_map(|sample| sample.psi_full_avg10)
        .fold(0.0, f64::max);
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
    format!(
        "{} samples; at the least {} MiB available, memory pressure up to {pressed:.1} percent, {} ms waited for memory; {swap}; {kills} kills by the kernel",
        samples.len(),
        lowest.unwrap_or(0) >> 20,
        waited_us(samples) / 1000,
    )
}

fn chart(end: u64, host: &str, samples: &[&MemorySample], id: &str) -> Markup {
    let totals = samples.iter().map(|sample| sample.total_bytes);
    let most = totals.max().unwrap_or(0).max(1);
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
    let available = points(&|sample| Some(share(sample.available_bytes)));
    let pressure = points(&|sample| sample.psi_full_avg10.map(|percent| percent / 100.0));
    let kills = kills(samples);
    let description = in_words(samples, kills.len());
    let bottom = CHART + 6.0;
    html! {
        h3 { "Memory of " (Plain(host)) }
        p.soft {
            "Line: memory available, of " (most >> 20) " MiB. Dashed: memory pressure (PSI full, avg10), in percent. \
             Upright: a kill by the kernel. In all: " (description) "."
        }
        div.scroll tabindex="0" role="region" aria-labelledby={ "mt" (id) } {
            svg viewBox={ "0 0 " (WIDTH) " " (CHART + 30.0) } role="img" aria-labelledby={ "mt" (id) " md" (id) } {
                title id={ "mt" (id) } { "Memory of " (Plain(host)) }
                desc id={ "md" (id) } { (description) }
                text x="0" y="16" { "100 %" }
                text x="0" y=(bottom) { "0 %" }
                polyline.memory points=(available) {}
                polyline.pressure points=(pressure) {}
                @for kill in kills {
                    @let x = format!("{:.1}", at(kill, end));
                    line.kill x1=(x) y1="6" x2=(x) y2=(bottom) {}
                }
                (axis(bottom, end))
            }
        }
    }
}
