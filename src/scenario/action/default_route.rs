//! `default-route`: has a host send what is for elsewhere by another next hop.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, MEMORY, PLUGGED};
use crate::scenario::{ActionError, World};
use crate::units::Name;

pub(super) const NAME: &str = "default-route";

#[derive(Debug)]
struct DefaultRoute {
    host: String,
    via: Ipv4Addr,
    nic: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    /// The default routes as `ip route show` writes them.
    routes: Vec<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let via = fields
        .required("via", reader)
        .and_then(|node| reader.scalar(node, "address"));
    let nic: Option<Name> = fields
        .required("nic", reader)
        .and_then(|node| reader.scalar(node, "interface name"));
    fields.finish(reader);
    Some(Box::new(DefaultRoute {
        host: host?,
        via: via?,
        nic: nic?.to_string(),
    }))
}

async fn shown(world: &World, host: &str) -> Result<Vec<String>, ActionError> {
    let said = inside::run(world, host, &["ip", "route", "show", "default"]).await?;
    let lines = said
        .lines()
        .map(|line| line.trim().replace(" linkdown", ""));
    Ok(lines.filter(|line| !line.is_empty()).collect())
}

#[async_trait]
impl Action for DefaultRoute {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "have {} send what is for elsewhere by {} through {}",
            self.host, self.via, self.nic
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let host = self.host.clone();
        let routes = shown(world, &host).await?;
        Ok(serde_json::to_value(Captured { host, routes })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let via = self.via.to_string();
        let argv = [
            "ip", "route", "replace", "default", "via", &via, "dev", &self.nic,
        ];
        inside::run(world, &self.host, &argv).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let now = shown(world, &self.host).await?;
        let wanted = format!("default via {} dev {}", self.via, self.nic);
        let there = now.iter().any(|route| route.starts_with(&wanted));
        Ok(Verified::new(
            there,
            format!("{}: {}", self.host, now.join("; ")),
        ))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, routes } = serde_json::from_value(captured)?;
    let mut script = "while ip route del default 2>/dev/null; do :; done\n".to_owned();
    for route in &routes {
        script.push_str(&format!("ip route add {route}\n"));
    }
    inside::script(world, &host, &script).await?;
    let now = shown(world, &host).await?;
    if now == routes {
        return Ok(format!("{host}: {}", now.join("; ")));
    }
    Err(ActionError::Target(format!(
        "{host} has the default routes {now:?}, and had {routes:?}"
    )))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default()
        .owns(&[MEMORY, "net", "main"])
        .reads(PLUGGED)
}
