//! `scheduler-refused`: a step that asked the scheduler for an instance too many was refused.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "scheduler-refused";

#[derive(Debug)]
struct SchedulerRefused {
    step: String,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let step = fields
        .required("step", reader)
        .and_then(|node| reader.scalar(node, "step"));
    fields.finish(reader);
    Some(Box::new(SchedulerRefused { step: step? }))
}

#[async_trait]
impl Probe for SchedulerRefused {
    async fn begin(&self, _: &World) -> Result<serde_json::Value, ActionError> {
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        _: &World,
        _: &serde_json::Value,
        seen: &Seen,
    ) -> Result<Finding, ActionError> {
        let refusal = seen.refused.iter().find(|(step, _)| *step == self.step);
        Ok(refusal.map_or(Finding::Quiet, |(_, why)| {
            Finding::Fired(vec![evidence(
                "Placement's arithmetic (facts 1)",
                why.as_str(),
            )])
        }))
    }
}
