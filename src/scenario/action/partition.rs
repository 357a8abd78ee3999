//! `partition`: no packet goes between two sets of hosts, on no bridge of the lab and not through this machine either.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Fields, Node, Reader};
use crate::hostnet::{Cut, Side};
use crate::plan::table_name;
use crate::scenario::footprint::{Footprint, MACHINE};
use crate::scenario::{ActionError, World};
use crate::units::Name;

pub(super) const NAME: &str = "partition";

#[derive(Debug)]
struct Partition {
    between: Vec<String>,
    and: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    /// The chain that is made, of a name that nothing has.
    chain: String,
}

fn hosts(fields: &mut Fields<'_>, key: &'static str, reader: &mut Reader) -> Option<Vec<String>> {
    let node = fields.required(key, reader)?;
    let items = reader.items(node);
    let names = items
        .iter()
        .filter_map(|item| reader.scalar(item, "host name"));
    Some(names.map(|name: Name| name.to_string()).collect())
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let between = hosts(&mut fields, "between", reader);
    let and = hosts(&mut fields, "and", reader);
    fields.finish(reader);
    let (between, and) = (between?, and?);
    if let Some(both) = between.iter().find(|name| and.contains(name)) {
        let why = "a host is on one side";
        reader.bad_value(node, both, "partition", &why);
    }
    Some(Box::new(Partition { between, and }))
}

/// This machine's ends of some hosts' interfaces, and their addresses.
async fn side(world: &World, hosts: &[String]) -> Result<Side, ActionError> {
    let mut side = Side::default();
    for name in hosts {
        let host = world.host(name)?;
        let target = host.target(world.found.record.uuid);
        let taps = world.drivers.hypervisor.anatomy(target).await?.taps;
        let nics = host.config().map(|config| config.nics).unwrap_or_default();
        let addresses = nics.iter().flat_map(|nic| &nic.addresses);
        side.ports.extend(taps.into_iter().map(|(_, tap)| tap));
        side.addresses
            .extend(addresses.map(|(address, _)| *address));
        if host.spec.nics.is_empty() {
            let why = format!("{name} has no interface to cut off");
            return Err(ActionError::Target(why));
        }
        side.macs.extend(host.spec.nics.iter().map(|nic| nic.mac));
    }
    Ok(side)
}

#[async_trait]
impl Action for Partition {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        self.between
            .iter()
            .chain(&self.and)
            .map(String::as_str)
            .collect()
    }

    fn describe(&self) -> String {
        format!(
            "cut {} off from {}",
            self.between.join(", "),
            self.and.join(", ")
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        for hosts in [&self.between, &self.and] {
            side(world, hosts).await?;
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let chain = format!("cut_{}", &id[..12]);
        Ok(serde_json::to_value(Captured { chain })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let cut = Cut {
            sides: [
                side(world, &self.between).await?,
                side(world, &self.and).await?,
            ],
        };
        let table = table_name(world.found.record.uuid);
        let hostnet = &world.drivers.hostnet;
        Ok(hostnet.cut(&table, &captured.chain, &cut).await?)
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let table = table_name(world.found.record.uuid);
        let dropped = world
            .drivers
            .hostnet
            .dropped(&table, &captured.chain)
            .await?;
        Ok(match dropped {
            Some(packets) => Verified::new(
                true,
                format!(
                    "chain {} of {table} is there, {packets} packets dropped",
                    captured.chain
                ),
            ),
            None => Verified::new(
                false,
                format!("there is no chain {} in {table}", captured.chain),
            ),
        })
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { chain } = serde_json::from_value(captured)?;
    mend(world, &chain).await
}

/// Removes a chain of the lab's own; returns what it has dropped or refused.
pub(super) async fn mend(world: &World, chain: &str) -> Result<String, ActionError> {
    let table = table_name(world.found.record.uuid);
    let hostnet = &world.drivers.hostnet;
    let dropped = hostnet.dropped(&table, chain).await?;
    hostnet.mend(&table, chain).await?;
    if hostnet.dropped(&table, chain).await?.is_some() {
        return Err(ActionError::Target(format!("chain {chain} is still there")));
    }
    let dropped = dropped.unwrap_or(0);
    Ok(format!(
        "chain {chain} is gone; it stopped {dropped} packets"
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MACHINE, "partition"])
}
