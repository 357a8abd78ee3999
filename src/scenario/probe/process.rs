//! `process`: processes of a name run inside a host, or none does.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action, arguments};

pub(super) const NAME: &str = "process";

#[derive(Debug)]
struct Process {
    host: String,
    name: String,
    runs: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let name = fields
        .required("name", reader)
        .and_then(|node| reader.scalar(node, "process name"));
    let words = [("runs", true), ("gone", false)];
    let runs = fields
        .required("is", reader)
        .and_then(|node| reader.choice(node, "state", &words));
    fields.finish(reader);
    Some(Box::new(Process {
        host: host?,
        name: name?,
        runs: runs?,
    }))
}

#[async_trait]
impl Probe for Process {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        world.host(&self.host)?;
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        world.state(&self.host).await?;
        let found = action::processes(world, &self.host, &self.name).await?;
        if found.is_empty() == self.runs {
            return Ok(Finding::Quiet);
        }
        let pids: Vec<String> = found
            .iter()
            .map(|(pid, state)| format!("{pid} ({state})"))
            .collect();
        let text = if pids.is_empty() {
            "none".to_owned()
        } else {
            pids.join(", ")
        };
        Ok(Finding::Fired(vec![evidence(
            format!("processes called {} in /proc of {}", self.name, self.host),
            text,
        )]))
    }
}
