//! What a topology asks of the baselines that it expects.

use crate::wire::GuestState;

/// Checks gates; returns what does not hold. `states` are the guests that answered, `dirty` what is not put back.
pub(super) fn failing(
    gates: &[String],
    states: &[(String, Option<GuestState>)],
    dirty: &[String],
) -> Vec<String> {
    let mut failing = Vec::new();
    for gate in gates {
        match gate.as_str() {
            "services-healthy" => {
                for (host, state) in states {
                    let Some(state) = state else {
                        failing.push(format!("services-healthy: {host} does not run or answer"));
                        continue;
                    };
                    let ill = state
                        .services
                        .iter()
                        .filter(|service| service.wanted && !service.healthy);
                    failing.extend(ill.map(|service| {
                        format!("services-healthy: {} on {host} is not", service.name)
                    }));
                }
            }
            "no-dirty-run" => {
                failing.extend(dirty.iter().map(|what| format!("no-dirty-run: {what}")));
            }
            other => failing.push(format!("{other}: this twin does not know that gate")),
        }
    }
    failing
}
