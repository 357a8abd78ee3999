//! `service-run`: makes exactly some of a host's services run: `all`, `none`, or names with commas between.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE, MEMORY};
use crate::scenario::{ActionError, World};
use crate::wire::Request;

pub(super) const NAME: &str = "service-run";

/// How often is looked whether they are healthy.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct ServiceRun {
    host: String,
    services: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    wanted: Vec<String>,
    all: Vec<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let services = fields
        .required("services", reader)
        .and_then(|node| reader.scalar(node, "services"));
    fields.finish(reader);
    Some(Box::new(ServiceRun {
        host: host?,
        services: services?,
    }))
}

impl ServiceRun {
    fn wanted(&self, captured: &Captured) -> Vec<String> {
        match self.services.as_str() {
            "all" => captured.all.clone(),
            "none" => Vec::new(),
            names => names
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect(),
        }
    }

    /// Which services are not as wanted.
    async fn astray(&self, world: &World, wanted: &[String]) -> Result<Vec<String>, ActionError> {
        let state = world.state(&self.host).await?;
        let astray = state.services.iter().filter(|service| {
            let wanted = wanted.contains(&service.name);
            if wanted {
                !service.healthy
            } else {
                service.process.is_some()
            }
        });
        Ok(astray.map(|service| service.name.clone()).collect())
    }
}

#[async_trait]
impl Action for ServiceRun {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("run these services on {}: {}", self.host, self.services)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let state = world.state(&self.host).await?;
        let names = |wanted_only: bool| {
            state
                .services
                .iter()
                .filter(|service| !wanted_only || service.wanted)
                .map(|service| service.name.clone())
                .collect()
        };
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            wanted: names(true),
            all: names(false),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        within: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let wanted = self.wanted(&captured);
        world
            .guest(&self.host)?
            .ask(Request::ServicesRun {
                names: wanted.clone(),
            })
            .await?;
        let until = world.drivers.clock.elapsed() + within;
        loop {
            let astray = self.astray(world, &wanted).await?;
            if astray.is_empty() {
                return Ok(());
            }
            if world.drivers.clock.elapsed() >= until {
                return Err(ActionError::Deadline {
                    last: format!("not as wanted: {}", astray.join(", ")),
                });
            }
            world.drivers.clock.sleep(LOOK).await;
        }
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let wanted = self.wanted(&captured);
        let astray = self.astray(world, &wanted).await?;
        let seen = if astray.is_empty() {
            format!("{} of {} services run", wanted.len(), captured.all.len())
        } else {
            format!("not as wanted: {}", astray.join(", "))
        };
        Ok(Verified::new(astray.is_empty(), seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let count = captured.wanted.len();
    world
        .guest(&captured.host)?
        .ask(Request::ServicesRun {
            names: captured.wanted,
        })
        .await?;
    Ok(format!("{count} services run on {} again", captured.host))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default()
        .owns(&[INSIDE, "services"])
        .reads(&[MEMORY, "signals"])
}
