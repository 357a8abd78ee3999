//! `default-route`: has a host send what is for elsewhere by another next hop.

use std::net::Ipv4Addr;

use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;

/// Has the host send what is for elsewhere by that next hop.
///
/// Revert: sets the routes before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DefaultRoute {
    host: Name,
    /// The next hop.
    via: Ipv4Addr,
    /// The interface, as the host calls it.
    nic: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    /// The default routes as `ip route show` writes them.
    routes: Vec<String>,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host)
        .owns(&[MEMORY, "net", "main"])
        .reads(PLUGGED)
}

async fn shown(world: &World, host: &str) -> Result<Vec<String>, FaultError> {
    let said = inside::run(world, host, &["ip", "route", "show", "default"]).await?;
    let lines = said
        .lines()
        .map(|line| line.trim().replace(" linkdown", ""));
    Ok(lines.filter(|line| !line.is_empty()).collect())
}

impl Fault for DefaultRoute {
    const NAME: &'static str = "default-route";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "have {} send what is for elsewhere by {} through {}",
            self.host, self.via, self.nic
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let host = self.host.to_string();
        let routes = shown(world, &host).await?;
        Ok(Before { host, routes })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let via = self.via.to_string();
        let argv = [
            "ip", "route", "replace", "default", "via", &via, "dev", &self.nic,
        ];
        inside::run(world, &self.host, &argv).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let now = shown(world, &self.host).await?;
        let wanted = format!("default via {} dev {}", self.via, self.nic);
        let there = now.iter().any(|route| route.starts_with(&wanted));
        Ok(Effectiveness::new(
            there,
            format!("{}: {}", self.host, now.join("; ")),
        ))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "sets the default routes of {} again: {}",
            self.host,
            self.routes.join("; ")
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, routes } = self;
        let mut script = "while ip route del default 2>/dev/null; do :; done\n".to_owned();
        for route in routes {
            script.push_str(&format!("ip route add {route}\n"));
        }
        inside::script(world, host, &script).await?;
        let now = shown(world, host).await?;
        if now == *routes {
            return Ok(format!("{host}: {}", now.join("; ")));
        }
        Err(FaultError::Target(format!(
            "{host} has the default routes {now:?}, and had {routes:?}"
        )))
    }
}
