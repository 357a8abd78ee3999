//! `instance-state`: what Nova says of an instance, and whether its process is there.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action, arguments};
use crate::wire::NovaStatus;

pub(super) const NAME: &str = "instance-state";

#[derive(Debug)]
struct InstanceStatus {
    host: String,
    instance: String,
    status: NovaStatus,
    /// Whether it has a process; either way where nothing is said.
    process: Option<bool>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let instance = fields
        .required("instance", reader)
        .and_then(|node| reader.scalar(node, "instance"));
    let words = [
        ("SHUTOFF", NovaStatus::Shutoff),
        ("ACTIVE", NovaStatus::Active),
    ];
    let status = fields
        .required("status", reader)
        .and_then(|node| reader.choice(node, "status", &words));
    let process = fields.optional("process");
    let words = [("runs", true), ("gone", false)];
    let process = process.map(|node| reader.choice(node, "process", &words));
    fields.finish(reader);
    Some(Box::new(InstanceStatus {
        host: host?,
        instance: instance?,
        status: status?,
        process: match process {
            None => None,
            Some(word) => Some(word?),
        },
    }))
}

#[async_trait]
impl Probe for InstanceStatus {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        // An instance that is not there is a mistake in the file, and told at once.
        action::instance(world, &self.host, &self.instance).await?;
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let state = world.state(&self.host).await?;
        let found = state
            .instances
            .iter()
            .find(|one| one.name == self.instance)
            .filter(|one| one.status() == self.status)
            .filter(|one| {
                self.process
                    .is_none_or(|runs| runs == one.process.is_some())
            });
        let Some(found) = found else {
            return Ok(Finding::Quiet);
        };
        let process = found.process.as_ref().map_or_else(
            || "no process".to_owned(),
            |process| format!("process {}", process.pid),
        );
        let record = evidence(
            format!("nova-compute's record on {}, and its /proc", self.host),
            format!("{} is {}, with {process}", found.name, found.status()),
        );
        let about = format!("[instance: {}]", found.name);
        let log = state.nova_log.iter().filter(|line| line.contains(&about));
        let source = format!("nova-compute's log on {}", self.host);
        let log = log.map(|line| evidence(source.as_str(), line.as_str()));
        Ok(Finding::Fired(std::iter::once(record).chain(log).collect()))
    }
}
