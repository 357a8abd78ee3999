//! `route-blackhole`: inside a host, a route drops what goes to one address or subnet.

use crate::scenario::arguments::AddressOrSubnet;
use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;

/// Drops packets to an address or a subnet, inside the host; a destination that has a route of its own is refused.
///
/// Revert: removes the route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RouteBlackhole {
    host: Name,
    to: AddressOrSubnet,
}

/// No route goes to exactly that before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before(RouteBlackhole);

impl RouteBlackhole {
    async fn ip(&self, world: &World, verb: &str) -> Result<String, FaultError> {
        let script = format!("ip -4 route {verb} {}", self.to);
        let said = inside::script(world, &self.host, &script).await?;
        Ok(said.trim().to_owned())
    }
}

impl Fault for RouteBlackhole {
    const NAME: &'static str = "route-blackhole";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("drop packets to {} on {}", self.to, self.host)
    }

    fn footprint(&self) -> Footprint {
        let place = [MEMORY, "net", "blackhole", &self.to.to_string()];
        Footprint::of_host(&self.host).owns(&place)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let routes = self.ip(world, "show table all exact").await?;
        let why = format!("{} has a route to {} already: {routes}", self.host, self.to);
        let free = routes.is_empty().then(|| Before(self.clone()));
        free.ok_or(FaultError::Target(why))
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        self.ip(world, "add blackhole").await.map(drop)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let routes = self.ip(world, "show type blackhole exact").await?;
        let seen = format!("{}: {routes}", self.host);
        Ok(Effectiveness::new(!routes.is_empty(), seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        self.0.footprint()
    }

    fn describe(&self) -> String {
        let RouteBlackhole { host, to } = &self.0;
        format!("removes the blackhole to {to} from {host}")
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        self.0.ip(world, "flush type blackhole exact").await?;
        let left = self.0.ip(world, "show type blackhole exact").await?;
        let done = left.is_empty().then(|| "no packet is dropped".into());
        done.ok_or(FaultError::Target(left))
    }
}
