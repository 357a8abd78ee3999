//! `packets`: a named counter of nftables inside a host has counted so many packets since the first look.

use async_trait::async_trait;

use super::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action};
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
    let host = action::host_of(&mut fields, reader);
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

#[async_trait]
impl Probe for Packets {
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
        let argv = [
            "nft",
            "-j",
            "list",
            "counter",
            "ip",
            &self.table,
            &self.counter,
        ];
        let said = action::inside::run(world, &self.host, &argv).await?;
        let document: serde_json::Value = serde_json::from_str(&said)?;
        let mut items = document["nftables"].as_array().into_iter().flatten();
        let packets = items
            .find_map(|item| item["counter"]["packets"].as_u64())
            .ok_or_else(|| ActionError::Target(format!("there is no counter {}", self.counter)))?;
        if packets < self.at_least {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("nftables' counter {} on {}", self.counter, self.host),
            format!("{packets} packets"),
        )]))
    }
}
