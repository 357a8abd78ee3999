//! `policy-route`: inside a host, packets from one address or subnet go by a routing table of their own.

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
use crate::units::{Cidr, Name};

pub(super) const NAME: &str = "policy-route";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PolicyRoute {
    host: String,
    /// Whose packets: an address or a subnet.
    from: String,
    /// The next hop.
    via: Ipv4Addr,
    /// The interface.
    nic: String,
    /// The table; its rule's preference is the same number.
    table: u32,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let from_node = fields.required("from", reader);
    let from: Option<String> = from_node.and_then(|node| reader.scalar(node, "address or subnet"));
    if let (Some(node), Some(text)) = (from_node, &from)
        && text.parse::<Ipv4Addr>().is_err()
        && text.parse::<Cidr>().is_err()
    {
        let why = "it is written like 10.12.4.60 or 10.12.4.0/22";
        reader.bad_value(node, text, "address or subnet", &why);
    }
    let via = fields
        .required("via", reader)
        .and_then(|node| reader.scalar(node, "address"));
    let nic: Option<Name> = fields
        .required("nic", reader)
        .and_then(|node| reader.scalar(node, "interface name"));
    let table = fields
        .required("table", reader)
        .and_then(|node| reader.scalar(node, "table's number"));
    fields.finish(reader);
    Some(Box::new(PolicyRoute {
        host: host?,
        from: from?,
        via: via?,
        nic: nic?.to_string(),
        table: table?,
    }))
}

impl PolicyRoute {
    /// The rules at this preference and the routes in this table, as `ip` shows them.
    async fn shown(&self, world: &World) -> Result<(String, String), ActionError> {
        let table = self.table.to_string();
        let rules = ["ip", "rule", "show", "pref", &table];
        let rules = inside::run(world, &self.host, &rules).await?;
        // A table that nobody has used yet is an error to some versions of ip.
        let routes = ["ip", "route", "show", "table", &table];
        let (_, routes, _) = inside::attempt(world, &self.host, &routes).await?;
        Ok((rules.trim().to_owned(), routes.trim().to_owned()))
    }
}

#[async_trait]
impl Action for PolicyRoute {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "on {}, route what is from {} by {} through {}",
            self.host, self.from, self.via, self.nic
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let (rules, routes) = self.shown(world).await?;
        if !rules.is_empty() || !routes.is_empty() {
            return Err(ActionError::Target(format!(
                "{} has something at preference or table {} already: {rules} {routes}",
                self.host, self.table
            )));
        }
        Ok(serde_json::to_value(self)?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let Self {
            from,
            via,
            nic,
            table,
            ..
        } = self;
        let script = format!(
            "ip route add default via {via} dev {nic} table {table}; ip rule add pref {table} from {from} lookup {table}; ip route flush cache"
        );
        inside::script(world, &self.host, &script).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let (rules, routes) = self.shown(world).await?;
        let there = rules.contains(&format!("lookup {}", self.table))
            && routes.contains(&format!("via {}", self.via));
        let seen = format!("{}: {rules}; {routes}", self.host);
        Ok(Verified::new(there, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let made: PolicyRoute = serde_json::from_value(captured)?;
    let PolicyRoute { host, table, .. } = &made;
    // Neither was there before; a boot has taken both with it.
    let script = format!(
        "while ip rule del pref {table} 2>/dev/null; do :; done; ip route flush table {table} 2>/dev/null || :; ip route flush cache"
    );
    inside::script(world, host, &script).await?;
    let (rules, routes) = made.shown(world).await?;
    if rules.is_empty() && routes.is_empty() {
        return Ok(format!("{host} has no rule and no table {table}"));
    }
    Err(ActionError::Target(format!(
        "{host} still has: {rules} {routes}"
    )))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default()
        .sets(&[MEMORY, "net", "rules"])
        .reads(PLUGGED)
}
