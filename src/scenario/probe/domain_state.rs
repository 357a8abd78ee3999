//! `domain-state`: what libvirt says of a host's power.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::Power;
use crate::scenario::{ActionError, World, arguments};

pub(super) const NAME: &str = "domain-state";

const WORDS: &[(&str, Power)] = &[
    ("running", Power::Running),
    ("paused", Power::Paused),
    ("shut-off", Power::ShutOff),
    ("crashed", Power::Crashed),
];

#[derive(Debug)]
struct DomainState {
    host: String,
    is: Power,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let is = fields
        .required("is", reader)
        .and_then(|node| reader.choice(node, "power", WORDS));
    fields.finish(reader);
    Some(Box::new(DomainState {
        host: host?,
        is: is?,
    }))
}

#[async_trait]
impl Probe for DomainState {
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
        let host = world.host(&self.host)?;
        let target = host.target(world.found.record.uuid);
        let now = world.drivers.hypervisor.power_state(target).await?;
        if now != self.is {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("libvirt, of domain {}", host.domain.name),
            format!("it is {now:?}"),
        )]))
    }
}
