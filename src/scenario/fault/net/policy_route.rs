//! `policy-route`: inside a host, packets from one address or subnet go by a routing table of their own.

use std::net::Ipv4Addr;

use crate::scenario::arguments::AddressOrSubnet;
use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;

/// A source rule with a table of its own.
///
/// Revert: removes both; used numbers are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PolicyRoute {
    host: Name,
    /// Whose packets: an address or a subnet.
    from: AddressOrSubnet,
    /// The next hop.
    via: Ipv4Addr,
    /// The interface, as the host calls it.
    nic: Name,
    /// The table; its rule's preference is the same number.
    table: u32,
}

/// Neither the table nor the rule is there before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    table: u32,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host)
        .sets(&[MEMORY, "net", "rules"])
        .reads(PLUGGED)
}

/// The rules at this preference and the routes in this table, as `ip` shows them.
async fn shown(world: &World, host: &str, table: u32) -> Result<(String, String), FaultError> {
    let table = table.to_string();
    let rules = ["ip", "rule", "show", "pref", &table];
    let rules = inside::run(world, host, &rules).await?;
    // A table that no route has been put into is an error to some versions of ip.
    let routes = ["ip", "route", "show", "table", &table];
    let (_, routes, _) = inside::attempt(world, host, &routes).await?;
    Ok((rules.trim().to_owned(), routes.trim().to_owned()))
}

impl Fault for PolicyRoute {
    const NAME: &'static str = "policy-route";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "on {}, route what is from {} by {} through {}",
            self.host, self.from, self.via, self.nic
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let (rules, routes) = shown(world, &self.host, self.table).await?;
        if !rules.is_empty() || !routes.is_empty() {
            return Err(FaultError::Target(format!(
                "{} has something at preference or table {} already: {rules} {routes}",
                self.host, self.table
            )));
        }
        Ok(Before {
            host: self.host.to_string(),
            table: self.table,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
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

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let (rules, routes) = shown(world, &self.host, self.table).await?;
        let there = rules.contains(&format!("lookup {}", self.table))
            && routes.contains(&format!("via {}", self.via));
        let seen = format!("{}: {rules}; {routes}", self.host);
        Ok(Effectiveness::new(there, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        let Self { host, table } = self;
        format!("removes rule {table} and the routes of table {table} from {host}")
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, table } = self;
        // A boot has taken both with it.
        let script = format!(
            "while ip rule del pref {table} 2>/dev/null; do :; done; ip route flush table {table} 2>/dev/null || :; ip route flush cache"
        );
        inside::script(world, host, &script).await?;
        let (rules, routes) = shown(world, host, *table).await?;
        if rules.is_empty() && routes.is_empty() {
            return Ok(format!("{host} has no rule and no table {table}"));
        }
        Err(FaultError::Target(format!(
            "{host} still has: {rules} {routes}"
        )))
    }
}
