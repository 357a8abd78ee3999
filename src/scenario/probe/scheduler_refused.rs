//! `scheduler-refused`: a step that asked the scheduler for an instance too many was refused.

use crate::scenario::probe::prelude::*;

/// Fires when the step was refused one more instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SchedulerRefused {
    step: String,
}

impl Probe for SchedulerRefused {
    const NAME: &'static str = "scheduler-refused";
    type Reference = ();

    async fn begin(&self, _: &World) -> Result<(), FaultError> {
        Ok(())
    }

    async fn look(&self, _: &World, (): &(), seen: &Seen) -> Result<Finding, FaultError> {
        let refusal = seen.refused.iter().find(|(step, _)| *step == self.step);
        Ok(refusal.map_or(Finding::Quiet, |(_, why)| {
            Finding::Fired(vec![evidence(
                "Placement's arithmetic (facts 1)",
                why.as_str(),
            )])
        }))
    }
}
