//! `instance-boot`: boots one instance of a flavor on a host, where Placement lets it in.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::instance_fill::{allocated, flavor, inventory};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};
use crate::units::{Mib, Name};
use crate::wire::{NovaStatus, Request};

pub(super) const NAME: &str = "instance-boot";

#[derive(Debug)]
struct InstanceBoot {
    host: String,
    flavor: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    name: String,
    flavor_mib: u64,
    /// What Placement refuses it with.
    refusal: Option<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let flavor = fields
        .required("flavor", reader)
        .and_then(|node| reader.scalar(node, "flavor"));
    let name: Option<Name> = fields
        .required("name", reader)
        .and_then(|node| reader.scalar(node, "instance's name"));
    fields.finish(reader);
    Some(Box::new(InstanceBoot {
        host: host?,
        flavor: flavor?,
        name: name?.to_string(),
    }))
}

#[async_trait]
impl Action for InstanceBoot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "boot instance {} of flavor {} on {}",
            self.name, self.flavor, self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let flavor_mib = flavor(world, &self.host, &self.flavor)?;
        let state = world.state(&self.host).await?;
        if state.instances.iter().any(|known| known.name == self.name) {
            return Err(ActionError::Target(format!(
                "there is an instance {} on {} already",
                self.name, self.host
            )));
        }
        let checked =
            inventory(world, &self.host, &state)?.check(allocated(&state), Mib(flavor_mib));
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            name: self.name.clone(),
            flavor_mib,
            refusal: checked.err().map(|refusal| refusal.to_string()),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        if captured.refusal.is_some() {
            return Ok(());
        }
        let instance = world.instance(&captured.name, captured.flavor_mib);
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::InstanceBoot(instance)).await?)
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let state = world.state(&self.host).await?;
        let found = state.instances.iter().find(|one| one.name == self.name);
        let runs =
            found.is_some_and(|one| one.status() == NovaStatus::Active && one.process.is_some());
        // To be refused is an answer too, and `scheduler-refused` looks for it.
        if let Some(refusal) = captured.refusal {
            let refused = format!("No valid host was found. {refusal}");
            return Ok(Verified {
                effective: found.is_none(),
                seen: refused.clone(),
                refused: Some(refused),
            });
        }
        let word = if runs { "runs" } else { "does not run" };
        let seen = format!("instance {} {word} on {}", self.name, self.host);
        Ok(Verified::new(runs, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, name, .. } = serde_json::from_value(captured)?;
    let guest = world.guest(&host)?;
    let delete = Request::InstanceDelete { name: name.clone() };
    guest.ask(delete).await?;
    Ok(format!("instance {name} deleted from {host}"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().sets(&[INSIDE, "instances", "booted"])
}
