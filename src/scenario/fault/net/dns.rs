//! `dns`: a name server no longer answers a host: it refuses, or stays silent. By rules in a table of its own inside the host.

use std::net::Ipv4Addr;

use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;

/// The table, which nothing else has.
const TABLE: &str = "twin_dns";

/// How long a silent server is waited for, in seconds.
const PATIENCE: &str = "2";

/// A name server `refuses` the host, or is `silent`, by rules inside the host.
///
/// Revert: removes their table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Dns {
    host: Name,
    server: Ipv4Addr,
    is: State,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
}

/// How the server is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    Refuses,
    Silent,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[INSIDE, "dns"])
}

/// Whether the table is there.
async fn is_there(world: &World, host: &str) -> Result<bool, FaultError> {
    let said = inside::run(world, host, &["nft", "list", "tables"]).await?;
    let table = format!("table inet {TABLE}");
    Ok(said.lines().any(|line| line.trim() == table))
}

/// How a connection from the host to the server's port goes.
async fn asked(world: &World, host: &str, server: Ipv4Addr) -> Result<String, FaultError> {
    let server = server.to_string();
    let argv = ["twin-guest", "connect", &server, "53", PATIENCE];
    Ok(inside::run(world, host, &argv).await?.trim().to_owned())
}

impl Fault for Dns {
    const NAME: &'static str = "dns";
    type Prior = Before;

    fn describe(&self) -> String {
        let what = if self.is == State::Refuses {
            "refuse"
        } else {
            "not answer"
        };
        format!("have name server {} {what} {}", self.server, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        if is_there(world, &self.host).await? {
            return Err(FaultError::Target(format!(
                "{} has a table {TABLE} already",
                self.host
            )));
        }
        let went = asked(world, &self.host, self.server).await?;
        if went != "open" {
            return Err(FaultError::Target(format!(
                "{} does not answer {} anyway: {went}",
                self.server, self.host
            )));
        }
        let host = self.host.to_string();
        Ok(Before { host })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let server = self.server;
        // Answers are dropped and not questions: a program that sends one would be told that it may not.
        let chain = if self.is == State::Refuses {
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

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let went = asked(world, &self.host, self.server).await?;
        let wanted = if self.is == State::Refuses {
            "refused"
        } else {
            "timed-out"
        };
        let seen = format!("a connection from {} to {}: {went}", self.host, self.server);
        Ok(Effectiveness::new(went == wanted, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("removes the table {TABLE} from {}", self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host } = self;
        if is_there(world, host).await? {
            inside::run(world, host, &["nft", "delete", "table", "inet", TABLE]).await?;
        }
        if is_there(world, host).await? {
            return Err(FaultError::Target(format!(
                "{host} still has the table {TABLE}"
            )));
        }
        Ok(format!("{host} has no table {TABLE}"))
    }
}
