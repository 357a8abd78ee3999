//! `service-stop`: stops one service of a host; the others go on.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE, MEMORY};
use crate::scenario::{ActionError, World};
use crate::wire::{Request, ServiceState};

pub(super) const NAME: &str = "service-stop";

#[derive(Debug)]
struct ServiceStop {
    host: String,
    service: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    wanted: Vec<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let service = fields
        .required("service", reader)
        .and_then(|node| reader.scalar(node, "service"));
    fields.finish(reader);
    Some(Box::new(ServiceStop {
        host: host?,
        service: service?,
    }))
}

impl ServiceStop {
    async fn service(&self, world: &World) -> Result<ServiceState, ActionError> {
        let services = world.state(&self.host).await?.services;
        let names: Vec<String> = services.iter().map(|one| one.name.clone()).collect();
        let found = services.into_iter().find(|one| one.name == self.service);
        found.ok_or_else(|| {
            ActionError::Target(format!(
                "there is no service {} on {}; there is: {}",
                self.service,
                self.host,
                names.join(", ")
            ))
        })
    }
}

#[async_trait]
impl Action for ServiceStop {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("stop {} on {}", self.service, self.host)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        if self.service(world).await?.process.is_none() {
            return Err(ActionError::Target(format!(
                "{} does not run on {}",
                self.service, self.host
            )));
        }
        let services = world.state(&self.host).await?.services;
        let wanted = services.into_iter().filter(|service| service.wanted);
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            wanted: wanted.map(|service| service.name).collect(),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let mut names = captured.wanted;
        names.retain(|name| *name != self.service);
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::ServicesRun { names }).await?)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let stopped = self.service(world).await?.process.is_none();
        let word = if stopped { "has no process" } else { "runs" };
        let seen = format!("{} on {} {word}", self.service, self.host);
        Ok(Verified::new(stopped, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, wanted } = serde_json::from_value(captured)?;
    let count = wanted.len();
    let guest = world.guest(&host)?;
    guest.ask(Request::ServicesRun { names: wanted }).await?;
    Ok(format!("{count} services run on {host} again"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default()
        .owns(&[INSIDE, "services"])
        .reads(&[MEMORY, "signals"])
}
