//! `nic-down`: takes one of a host's interfaces down inside the guest; its routes, in all tables, go with it and come back with it.

use std::fmt::Write as _;

use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;

/// Takes an interface down, inside the host.
///
/// Revert: up, with the routes before, in all tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NicDown {
    host: Name,
    /// The interface, as the host calls it.
    nic: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    nic: String,
    up: bool,
    /// Routes of all tables through it that the kernel does not make by itself, as `ip route show` writes them, sorted.
    routes: Vec<String>,
}

fn footprint(host: &str) -> Footprint {
    // It captured the routes of all tables.
    Footprint::of_host(host)
        .owns(&[MEMORY, "net", "main"])
        .reads(&[MEMORY, "net", "rules"])
        .reads(PLUGGED)
}

/// Whether an interface is up, as its flags say.
pub(crate) async fn is_up(world: &World, host: &str, nic: &str) -> Result<bool, FaultError> {
    let said = inside::run(world, host, &["ip", "-o", "link", "show", "dev", nic]).await?;
    let flags = said
        .split('<')
        .nth(1)
        .and_then(|rest| rest.split('>').next());
    Ok(flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "UP")))
}

/// Sorts routes, those of the main table first: other tables' next hops may be reached by them.
pub(crate) fn in_order(routes: &mut [String]) {
    routes.sort_by_cached_key(|route| (route.contains(" table "), route.clone()));
}

pub(crate) async fn routes(
    world: &World,
    host: &str,
    nic: &str,
) -> Result<Vec<String>, FaultError> {
    let argv = ["ip", "-4", "route", "show", "table", "all", "dev", nic];
    let said = inside::run(world, host, &argv).await?;
    let lines = said.lines().map(str::trim);
    // Those that the kernel makes come with the address.
    let made = lines.filter(|line| !line.is_empty() && !line.contains("proto kernel"));
    let mut routes: Vec<String> = made.map(|line| line.replace(" linkdown", "")).collect();
    in_order(&mut routes);
    Ok(routes)
}

impl Fault for NicDown {
    const NAME: &'static str = "nic-down";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("take {} of {} down", self.nic, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let up = is_up(world, &self.host, &self.nic).await?;
        if !up {
            let why = format!("{} of {} is down already", self.nic, self.host);
            return Err(FaultError::Target(why));
        }
        Ok(Before {
            host: self.host.to_string(),
            nic: self.nic.to_string(),
            up,
            routes: routes(world, &self.host, &self.nic).await?,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let argv = ["ip", "link", "set", "dev", &self.nic, "down"];
        inside::run(world, &self.host, &argv).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let up = is_up(world, &self.host, &self.nic).await?;
        let word = if up { "up" } else { "down" };
        let seen = format!("{} of {} is {word}", self.nic, self.host);
        Ok(Effectiveness::new(!up, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "takes {} of {} up again, with {} routes",
            self.nic,
            self.host,
            self.routes.len()
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        // An older twin's are not.
        let mut were = self.routes.clone();
        in_order(&mut were);
        let Self { host, nic, up, .. } = self;
        let state = if *up { "up" } else { "down" };
        let mut script = format!("ip link set dev {nic} {state}\n");
        if *up {
            for route in &were {
                // Writing to a String does not fail.
                let _ = writeln!(script, "ip route replace {route} dev {nic}");
            }
        }
        inside::script(world, host, &script).await?;
        let now = routes(world, host, nic).await?;
        if is_up(world, host, nic).await? == *up && (!up || now == were) {
            return Ok(format!("{nic} of {host} is {state}, its routes as before"));
        }
        Err(FaultError::Target(format!(
            "{nic} of {host} has the routes {now:?}, and had {were:?}"
        )))
    }
}
