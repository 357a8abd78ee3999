//! `forward-policy`: this machine refuses, or drops, what goes from one of the lab's networks to another, in a table of the lab's
//! own and before any other rule.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::hostnet::Forbidden;
use crate::plan::table_name;
use crate::scenario::arguments::network_of;
use crate::scenario::footprint::{Footprint, MACHINE};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "forward-policy";

#[derive(Debug)]
struct ForwardPolicy {
    from: String,
    to: String,
    refused: bool,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    /// The chain that is made, of a name that nothing has.
    chain: String,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let from = network_of(&mut fields, "from", reader);
    let to = network_of(&mut fields, "to", reader);
    let words = [("refuse", true), ("drop", false)];
    let refused = fields
        .required("policy", reader)
        .and_then(|node| reader.choice(node, "policy", &words));
    fields.finish(reader);
    let (from, to) = (from?, to?);
    if from == to {
        let why = "nothing is forwarded within a network";
        reader.bad_value(node, &to, "network to forward to", &why);
    }
    Some(Box::new(ForwardPolicy {
        from,
        to,
        refused: refused?,
    }))
}

impl ForwardPolicy {
    fn forbidden(&self, world: &World) -> Result<Forbidden, ActionError> {
        Ok(Forbidden {
            from: world.bridge(&self.from)?.to_owned(),
            to: world.bridge(&self.to)?.to_owned(),
            refused: self.refused,
        })
    }
}

#[async_trait]
impl Action for ForwardPolicy {
    fn name(&self) -> &'static str {
        NAME
    }

    /// It is done to this machine, and to networks.
    fn hosts(&self) -> Vec<&str> {
        Vec::new()
    }

    fn describe(&self) -> String {
        let word = if self.refused { "refuse" } else { "drop" };
        format!("{word} what goes from {} to {}", self.from, self.to)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        self.forbidden(world)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let chain = format!("fwd_{}", &id[..12]);
        Ok(serde_json::to_value(Captured { chain })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let Captured { chain } = serde_json::from_value(captured.clone())?;
        let table = table_name(world.found.record.uuid);
        let forbidden = self.forbidden(world)?;
        let hostnet = &world.drivers.hostnet;
        Ok(hostnet.forbid(&table, &chain, &forbidden).await?)
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let Captured { chain } = serde_json::from_value(captured.clone())?;
        let table = table_name(world.found.record.uuid);
        let counted = world.drivers.hostnet.dropped(&table, &chain).await?;
        let word = if counted.is_some() { "is" } else { "is not" };
        let seen = format!("chain {chain} of {table} {word} there");
        Ok(Verified::new(counted.is_some(), seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { chain } = serde_json::from_value(captured)?;
    super::partition::mend(world, &chain).await
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MACHINE, "forward"])
}
