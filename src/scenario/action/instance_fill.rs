//! `instance-fill`: boots instances of a flavor on a host for as long as Placement lets one in.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::model::placement::Inventory;
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};
use crate::units::Mib;
use crate::wire::{GuestState, Request};

pub(super) const NAME: &str = "instance-fill";

/// More instances than any host carries.
const MOST: usize = 512;

#[derive(Debug)]
struct InstanceFill {
    host: String,
    flavor: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    flavor_mib: u64,
    /// The instances that will be made.
    names: Vec<String>,
    /// What Placement says of one more, where it refuses it.
    refusal: Option<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let flavor = fields
        .required("flavor", reader)
        .and_then(|node| reader.scalar(node, "flavor"));
    fields.finish(reader);
    Some(Box::new(InstanceFill {
        host: host?,
        flavor: flavor?,
    }))
}

/// The MiB of a flavor that a host's instances can have.
pub(in super::super) fn flavor(
    world: &World,
    host: &str,
    flavor: &str,
) -> Result<u64, ActionError> {
    let compute = world.compute(host)?;
    let found = compute.flavors.get(flavor).copied();
    found.ok_or_else(|| ActionError::Target(format!("there is no flavor {flavor}")))
}

/// What Placement has of a host.
pub(in super::super) fn inventory(
    world: &World,
    host: &str,
    state: &GuestState,
) -> Result<Inventory, ActionError> {
    let compute = world.compute(host)?;
    Ok(Inventory {
        total: Mib(compute.total_mib),
        reserved: Mib(state.reserved_mib.unwrap_or(compute.reserved_mib)),
        allocation_ratio: compute.ram_allocation_ratio,
    })
}

/// What is allocated: a stopped instance keeps its allocation.
pub(in super::super) fn allocated(state: &GuestState) -> Mib {
    state
        .instances
        .iter()
        .map(|instance| Mib(instance.flavor_mib))
        .sum()
}

#[async_trait]
impl Action for InstanceFill {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "boot instances of flavor {} on {} until Placement refuses one",
            self.flavor, self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let flavor_mib = flavor(world, &self.host, &self.flavor)?;
        let state = world.state(&self.host).await?;
        let inventory = inventory(world, &self.host, &state)?;
        let (mut used, mut names) = (allocated(&state), Vec::new());
        let refusal = loop {
            match inventory.check(used, Mib(flavor_mib)) {
                Err(refusal) => break Some(refusal.to_string()),
                Ok(()) if names.len() == MOST => break None,
                Ok(()) => {
                    names.push(format!("fill-{}-{}", world.run, names.len()));
                    used += Mib(flavor_mib);
                }
            }
        };
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            flavor_mib,
            names,
            refusal,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let guest = world.guest(&self.host)?;
        for name in &captured.names {
            guest
                .ask(Request::InstanceBoot(
                    world.instance(name, captured.flavor_mib),
                ))
                .await?;
        }
        Ok(())
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let state = world.state(&self.host).await?;
        let running = captured
            .names
            .iter()
            .filter(|name| {
                state
                    .instances
                    .iter()
                    .any(|instance| instance.name == **name && instance.process.is_some())
            })
            .count();
        let one_more = captured.refusal.as_ref().map_or_else(
            || "would fit".to_owned(),
            |refusal| format!("no valid host ({refusal})"),
        );
        let seen = format!(
            "{running} of {} booted, {} of flavors on {}; one more: {one_more}",
            captured.names.len(),
            allocated(&state),
            self.host,
        );
        let refusal = captured.refusal;
        Ok(Verified {
            effective: running == captured.names.len() && refusal.is_some(),
            seen,
            refused: refusal.map(|refusal| format!("No valid host was found. {refusal}")),
        })
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let guest = world.guest(&captured.host)?;
    for name in &captured.names {
        guest
            .ask(Request::InstanceDelete { name: name.clone() })
            .await?;
    }
    Ok(format!(
        "{} instances deleted from {}",
        captured.names.len(),
        captured.host
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().sets(&[INSIDE, "instances", "filled"])
}
