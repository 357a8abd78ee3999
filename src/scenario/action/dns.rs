//! `dns`: a name server no longer answers a host: it refuses, or stays silent. By rules in a table of its own inside the host.

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "dns";

/// The table, which nothing else has.
const TABLE: &str = "twin_dns";

/// How long a silent server is waited for, in seconds.
const PATIENCE: &str = "2";

#[derive(Debug)]
struct Dns {
    host: String,
    server: Ipv4Addr,
    refuses: bool,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let server = fields
        .required("server", reader)
        .and_then(|node| reader.scalar(node, "address"));
    let words = [("refuses", true), ("silent", false)];
    let refuses = fields
        .required("is", reader)
        .and_then(|node| reader.choice(node, "state", &words));
    fields.finish(reader);
    Some(Box::new(Dns {
        host: host?,
        server: server?,
        refuses: refuses?,
    }))
}

/// Whether the table is there.
async fn is_there(world: &World, host: &str) -> Result<bool, ActionError> {
    let said = inside::run(world, host, &["nft", "list", "tables"]).await?;
    let table = format!("table inet {TABLE}");
    Ok(said.lines().any(|line| line.trim() == table))
}

/// How a connection from the host to the server's port goes.
async fn asked(world: &World, host: &str, server: Ipv4Addr) -> Result<String, ActionError> {
    let server = server.to_string();
    let argv = ["twin-guest", "connect", &server, "53", PATIENCE];
    Ok(inside::run(world, host, &argv).await?.trim().to_owned())
}

#[async_trait]
impl Action for Dns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        let what = if self.refuses { "refuse" } else { "not answer" };
        format!("have name server {} {what} {}", self.server, self.host)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        if is_there(world, &self.host).await? {
            return Err(ActionError::Target(format!(
                "{} has a table {TABLE} already",
                self.host
            )));
        }
        let went = asked(world, &self.host, self.server).await?;
        if went != "open" {
            return Err(ActionError::Target(format!(
                "{} does not answer {} anyway: {went}",
                self.server, self.host
            )));
        }
        let host = self.host.clone();
        Ok(serde_json::to_value(Captured { host })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let server = self.server;
        // Answers are dropped and not questions: a program that sends one would be told that it may not.
        let chain = if self.refuses {
            format!(
                "chain asked {{\ntype filter hook output priority 0; policy accept;\n\
                 ip daddr {server} udp dport 53 counter reject\n\
                 ip daddr {server} tcp dport 53 counter reject with tcp reset\n}}\n"
            )
        } else {
            format!(
                "chain answered {{\ntype filter hook input priority 0; policy accept;\n\
                 ip saddr {server} udp sport 53 counter drop\n\
                 ip saddr {server} tcp sport 53 counter drop\n}}\n"
            )
        };
        let rules = format!("table inet {TABLE} {{\n{chain}}}\n");
        let script = "printf %s \"$1\" | nft -f -";
        inside::run(world, &self.host, &["sh", "-ec", script, "sh", &rules])
            .await
            .map(drop)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let went = asked(world, &self.host, self.server).await?;
        let wanted = if self.refuses { "refused" } else { "timed-out" };
        let seen = format!("a connection from {} to {}: {went}", self.host, self.server);
        Ok(Verified::new(went == wanted, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host } = serde_json::from_value(captured)?;
    if is_there(world, &host).await? {
        inside::run(world, &host, &["nft", "delete", "table", "inet", TABLE]).await?;
    }
    if is_there(world, &host).await? {
        return Err(ActionError::Target(format!(
            "{host} still has the table {TABLE}"
        )));
    }
    Ok(format!("{host} has no table {TABLE}"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[INSIDE, "dns"])
}
