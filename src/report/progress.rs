//! A run while it happens, a line at a time.

use crate::scenario::{RunEvent, RunPhase};

const fn phase(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Steadying => "waiting for a steady state",
        RunPhase::TakingBaseline => "taking a baseline",
        RunPhase::Observing => "observing",
        RunPhase::Undoing => "undoing",
        RunPhase::Recovering => "waiting for recovery",
        RunPhase::Comparing => "comparing with the baseline",
        RunPhase::Restoring => "restoring the baseline",
    }
}

/// What an event tells those who wait for a run's end, in lines; nothing for most.
pub fn progress(event: &RunEvent) -> Vec<String> {
    match event {
        RunEvent::VariantBegun { variant, targets } => {
            let targets = targets.iter().map(|target| {
                format!(
                    "  acts on {}: domain {}, {}",
                    target.host, target.domain, target.uuid
                )
            });
            let variant = format!("variant {variant}");
            std::iter::once(variant).chain(targets).collect()
        }
        RunEvent::PhaseBegun { phase: begun } => vec![format!("  {}", phase(*begun))],
        RunEvent::StepBegun { what: text, .. } | RunEvent::Note { text } => {
            vec![format!("  {text}")]
        }
        RunEvent::RunBegun(_)
        | RunEvent::Acting { .. }
        | RunEvent::Acted { .. }
        | RunEvent::StepEnded(_)
        | RunEvent::Sampled(_)
        | RunEvent::Probed(_)
        | RunEvent::VariantEnded(_)
        | RunEvent::RunEnded { .. } => Vec::new(),
    }
}
