//! Judging a variant by what its probes saw.

use super::looking::Against;
use super::probe_state::ProbeState;
use super::result::Outcome;

/// Judges a variant: a fault without effect, or a probe that could not look, leaves it open whatever else was seen; but a lab that is
/// not what it was speaks against it in any case.
pub(super) fn judge(
    probes: &[ProbeState],
    abort_reasons: &[String],
    recovered: &Result<(), Vec<String>>,
) -> (Outcome, Vec<String>) {
    let ill = recovered.as_ref().err().into_iter().flatten();
    let ill: Vec<String> = ill.map(|ill| format!("not recovered: {ill}")).collect();
    if !abort_reasons.is_empty() {
        let outcome = if ill.is_empty() {
            Outcome::Inconclusive
        } else {
            Outcome::Unexpected
        };
        return (outcome, [abort_reasons, &ill].concat());
    }
    let Against {
        mut wrong,
        mut blind,
    } = probes
        .iter()
        .map(ProbeState::against)
        .fold(Against::default(), Against::and);
    wrong.extend(ill);
    let outcome = match (wrong.is_empty(), blind.is_empty()) {
        (false, _) => Outcome::Unexpected,
        (true, false) => Outcome::Inconclusive,
        (true, true) => Outcome::AsExpected,
    };
    wrong.append(&mut blind);
    (outcome, wrong)
}
