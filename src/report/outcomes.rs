//! The variants of a run beside one another: when each probe fired in which.

use crate::scenario::{Outcome, ProbeOutcome, ProbeResult, VariantResult, WorldResult};

/// What was seen in one variant.
pub(super) struct Cell {
    /// In few words.
    pub(super) words: String,
    /// Whether that was expected; nothing where nothing was.
    pub(super) right: Option<bool>,
}

/// A line a probe, with a cell a variant.
pub(super) struct Outcomes<'d> {
    /// The variants' names.
    pub(super) variants: Vec<&'d str>,
    /// What the line is about, and its cells.
    pub(super) lines: Vec<(&'d str, Vec<Cell>)>,
}

fn cell(probe: Option<&ProbeResult>) -> Cell {
    let Some(probe) = probe else {
        let words = "-".to_owned();
        return Cell { words, right: None };
    };
    let words = match (probe.result, probe.fired_ms) {
        (ProbeOutcome::Fired, Some(at)) => seconds(at),
        (ProbeOutcome::Quiet, _) => "never".to_owned(),
        (other, _) => other.to_string(),
    };
    let right = probe.as_expected();
    Cell { words, right }
}

fn outcome(variant: &VariantResult) -> Cell {
    let (words, right) = match variant.outcome {
        Outcome::AsExpected => ("as expected", Some(true)),
        Outcome::Unexpected => ("unexpected", Some(false)),
        Outcome::Inconclusive => ("inconclusive", None),
    };
    let words = words.to_owned();
    Cell { words, right }
}

fn recovered(variant: &VariantResult) -> Cell {
    let words = match (variant.recovered, variant.mttr_ms) {
        (true, Some(took)) => seconds(took),
        (true, None) => "-".to_owned(),
        (false, _) => "no".to_owned(),
    };
    let right = Some(variant.recovered);
    Cell { words, right }
}

/// Puts the variants of a world beside one another; nothing where there is one only.
pub(super) fn outcomes(world: &WorldResult) -> Option<Outcomes<'_>> {
    if world.variants.len() < 2 {
        return None;
    }
    let of = |variant: &VariantResult, id: &str| {
        let mut probes = variant.probes.iter();
        cell(probes.find(|probe| probe.id == id))
    };
    let all = |one: fn(&VariantResult) -> Cell| world.variants.iter().map(one).collect();
    let mut lines = vec![("outcome", all(outcome))];
    let all_probes = || world.variants.iter().flat_map(|variant| &variant.probes);
    // One that could not begin has none.
    let expected = |id: &str| all_probes().any(|one| one.id == id && one.expected.is_some());
    for probe in all_probes() {
        let id = probe.id.as_str();
        if !expected(id) || lines.iter().any(|(line, _)| *line == id) {
            continue;
        }
        let cells = world.variants.iter().map(|variant| of(variant, id));
        lines.push((id, cells.collect()));
    }
    lines.push(("recovered in", all(recovered)));
    let variants = world.variants.iter();
    Some(Outcomes {
        variants: variants.map(|variant| variant.name.as_str()).collect(),
        lines,
    })
}

/// Seconds with one digit.
pub(super) fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}
