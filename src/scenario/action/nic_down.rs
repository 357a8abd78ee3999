//! `nic-down`: takes one of a host's interfaces down inside the guest; its routes, in all tables, go with it and come back with it.

use std::fmt::Write as _;
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

pub(super) const NAME: &str = "nic-down";

#[derive(Debug)]
struct NicDown {
    host: String,
    nic: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    nic: String,
    up: bool,
    /// Routes of all tables through it that the kernel does not make by itself, as `ip route show` writes them, sorted.
    routes: Vec<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let nic: Option<Name> = fields
        .required("nic", reader)
        .and_then(|node| reader.scalar(node, "interface name"));
    fields.finish(reader);
    Some(Box::new(NicDown {
        host: host?,
        nic: nic?.to_string(),
    }))
}

/// Whether an interface is up, as its flags say.
pub(super) async fn is_up(world: &World, host: &str, nic: &str) -> Result<bool, ActionError> {
    let said = inside::run(world, host, &["ip", "-o", "link", "show", "dev", nic]).await?;
    let flags = said
        .split('<')
        .nth(1)
        .and_then(|rest| rest.split('>').next());
    Ok(flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "UP")))
}

/// Sorts routes, those of the main table first: other tables' next hops may be reached by them.
pub(super) fn in_order(routes: &mut [String]) {
    routes.sort_by_cached_key(|route| (route.contains(" table "), route.clone()));
}

pub(super) async fn routes(
    world: &World,
    host: &str,
    nic: &str,
) -> Result<Vec<String>, ActionError> {
    let argv = ["ip", "-4", "route", "show", "table", "all", "dev", nic];
    let said = inside::run(world, host, &argv).await?;
    let lines = said.lines().map(str::trim);
    // Those that the kernel makes come with the address.
    let made = lines.filter(|line| !line.is_empty() && !line.contains("proto kernel"));
    let mut routes: Vec<String> = made.map(|line| line.replace(" linkdown", "")).collect();
    in_order(&mut routes);
    Ok(routes)
}

#[async_trait]
impl Action for NicDown {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("take {} of {} down", self.nic, self.host)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let up = is_up(world, &self.host, &self.nic).await?;
        if !up {
            let why = format!("{} of {} is down already", self.nic, self.host);
            return Err(ActionError::Target(why));
        }
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            nic: self.nic.clone(),
            up,
            routes: routes(world, &self.host, &self.nic).await?,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let argv = ["ip", "link", "set", "dev", &self.nic, "down"];
        inside::run(world, &self.host, &argv).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let up = is_up(world, &self.host, &self.nic).await?;
        let word = if up { "up" } else { "down" };
        let seen = format!("{} of {} is {word}", self.nic, self.host);
        Ok(Verified::new(!up, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let mut captured: Captured = serde_json::from_value(captured)?;
    // An older twin's are not.
    in_order(&mut captured.routes);
    let Captured {
        host,
        nic,
        up,
        routes: were,
        ..
    } = &captured;
    let state = if *up { "up" } else { "down" };
    let mut script = format!("ip link set dev {nic} {state}\n");
    if *up {
        for route in were {
            // Writing to a String does not fail.
            let _ = writeln!(script, "ip route replace {route} dev {nic}");
        }
    }
    inside::script(world, host, &script).await?;
    let now = routes(world, host, nic).await?;
    if is_up(world, host, nic).await? == *up && (!up || now == *were) {
        return Ok(format!("{nic} of {host} is {state}, its routes as before"));
    }
    Err(ActionError::Target(format!(
        "{nic} of {host} has the routes {now:?}, and had {were:?}"
    )))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    // It captured the routes of all tables.
    Footprint::default()
        .owns(&[MEMORY, "net", "main"])
        .reads(&[MEMORY, "net", "rules"])
        .reads(PLUGGED)
}
