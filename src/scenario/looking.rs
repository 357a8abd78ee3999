//! Looking, for probes that look once and those that look all the time.

use std::time::Duration;

use super::World;
use super::probe::{Finding, Reference, Seen};
use super::probe_entry::ResolvedProbe;
use super::result::Evidence;

/// How often probes are asked.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Between a look that failed and the next.
const AGAIN: Duration = Duration::from_millis(250);

/// Of a longer time without a look, in milliseconds, it is not known whether the probe held.
pub(super) const GAP: u64 = 10_000;

pub(super) fn cannot_look(id: &str, why: &str) -> String {
    format!("{id} cannot look: {why}")
}

/// Looks, and again where that could not be done, as often as the probe may.
pub(super) async fn look_with_retries(
    world: &World,
    one: &ResolvedProbe,
    stood: &Result<Reference, String>,
    seen: &Seen,
) -> Result<Finding, String> {
    let stood = stood.as_ref().map_err(Clone::clone)?;
    let mut left = one.retries;
    loop {
        match one.probe.look(world, stood, seen).await {
            Err(_) if left > 0 => left -= 1,
            looked => return looked.map_err(|error| error.to_string()),
        }
        world.drivers.clock.sleep(AGAIN).await;
    }
}

/// What a probe saw, and why it could last not look.
pub(super) fn evidence(fired: Option<Vec<Evidence>>, trouble: Option<String>) -> Vec<Evidence> {
    let trouble = trouble.map(|why| Evidence {
        source: "could not look".into(),
        text: why,
    });
    fired
        .unwrap_or_default()
        .into_iter()
        .chain(trouble)
        .collect()
}

/// What speaks against a variant: what was seen and should not be, or should have been and was not; and what could not be
/// looked at.
#[derive(Debug, Default)]
pub(super) struct Against {
    pub(super) wrong: Vec<String>,
    pub(super) blind: Vec<String>,
}

impl Against {
    /// Adds what speaks against it elsewhere.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.wrong.extend(other.wrong);
        self.blind.extend(other.blind);
        self
    }
}
