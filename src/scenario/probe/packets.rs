//! `packets`: a named counter of nftables inside a host has counted so many packets since the first look.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::Power;
use crate::scenario::{ActionError, World, action, arguments};
use crate::units::Name;

pub(super) const NAME: &str = "packets";

#[derive(Debug)]
struct Packets {
    host: String,
    table: String,
    counter: String,
    at_least: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let table = fields.optional("table");
    let table = table.map_or_else(
        || Some(action::POD_TABLE.to_owned()),
        |node| reader.scalar(node, "table's name"),
    );
    let counter: Option<Name> = fields
        .required("counter", reader)
        .and_then(|node| reader.scalar(node, "counter's name"));
    let at_least = fields.optional("at-least");
    let at_least = at_least.map_or(Some(1), |node| reader.scalar(node, "count"));
    fields.finish(reader);
    Some(Box::new(Packets {
        host: host?,
        table: table?,
        counter: counter?.to_string(),
        at_least: at_least?,
    }))
}

impl Packets {
    /// What it has counted; nothing where there is no such counter.
    async fn count(&self, world: &World) -> Result<Option<u64>, ActionError> {
        let argv = [
            "nft",
            "-j",
            "list",
            "counter",
            "ip",
            &self.table,
            &self.counter,
        ];
        let (code, said, errors) = action::inside::attempt(world, &self.host, &argv).await?;
        if code != 0 && errors.contains("No such file or directory") {
            return Ok(None);
        }
        if code != 0 {
            let why = format!("nft on {} ended with {code}: {}", self.host, errors.trim());
            return Err(ActionError::Target(why));
        }
        let document: serde_json::Value = serde_json::from_str(&said)?;
        let mut items = document["nftables"].as_array().into_iter().flatten();
        Ok(items.find_map(|item| item["counter"]["packets"].as_u64()))
    }
}

#[async_trait]
impl Probe for Packets {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        // A step may make it, and one that does not run has counted nothing.
        let power = world
            .drivers
            .hypervisor
            .power_state(world.target(&self.host)?)
            .await?;
        if power != Power::Running {
            return Ok(0.into());
        }
        Ok(self.count(world).await?.unwrap_or(0).into())
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let now = self.count(world).await?;
        let now = now
            .ok_or_else(|| ActionError::Target(format!("there is no counter {}", self.counter)))?;
        // One that was made anew meanwhile counts from zero.
        let before = begun.as_u64().filter(|before| *before <= now);
        let packets = now - before.unwrap_or(0);
        if packets < self.at_least {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("nftables' counter {} on {}", self.counter, self.host),
            format!("{packets} packets"),
        )]))
    }
}
