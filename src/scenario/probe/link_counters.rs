//! `link-counters`: packets over one of a host's interfaces, as the kernel of this machine counts them at its end of it; or
//! over a network's bridge.

use crate::hostnet::Counters;
use crate::scenario::probe::prelude::*;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Direction {
    Sent,
    Received,
}

/// A link and its count at the first look.
pub(crate) struct Before {
    name: String,
    count: u64,
}

/// Fires when so many packets were `sent` or `received` by the host, or by this machine, as the kernel counts at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LinkCounters {
    network: Name,
    /// At its end of the network; the bridge where none is named.
    #[serde(default)]
    host: Option<Name>,
    /// Which way, seen from the host, or from this machine where it is the bridge.
    packets: Direction,
    rise_by: u64,
}

impl LinkCounters {
    fn is_sent(&self) -> bool {
        self.packets == Direction::Sent
    }

    /// The link of this machine that is looked at.
    async fn link(&self, world: &World) -> Result<String, FaultError> {
        match &self.host {
            Some(host) => Ok(world.tap(host, &self.network).await?),
            None => Ok(world.bridge(&self.network)?.to_owned()),
        }
    }

    /// The link's name and its count.
    async fn count(&self, world: &World) -> Result<(String, u64), FaultError> {
        let name = self.link(world).await?;
        let links = world.drivers.hostnet.links.links().await?;
        let found = links.into_iter().find(|link| link.name == name);
        let Some(found) = found else {
            return Err(FaultError::Target(format!("there is no link {name}")));
        };
        let Counters {
            received_packets,
            sent_packets,
            ..
        } = found.counters;
        // What a host sends, this machine's end of it receives.
        let turned = self.host.is_some();
        let count = if self.is_sent() == turned {
            received_packets
        } else {
            sent_packets
        };
        Ok((name, count))
    }
}

impl Probe for LinkCounters {
    const NAME: &'static str = "link-counters";
    type Reference = Before;

    async fn begin(&self, world: &World) -> Result<Before, FaultError> {
        let (name, count) = self.count(world).await?;
        Ok(Before { name, count })
    }

    async fn look(&self, world: &World, begun: &Before, _: &Seen) -> Result<Finding, FaultError> {
        let (name, now) = self.count(world).await?;
        // One that was made anew meanwhile counts from zero.
        let goes_on = begun.name == name && begun.count <= now;
        let before = if goes_on { begun.count } else { 0 };
        if now - before < self.rise_by {
            return Ok(Finding::Quiet);
        }
        let of = self.host.as_deref().unwrap_or("this machine");
        let direction = if self.is_sent() { "sent" } else { "received" };
        Ok(Finding::Fired(vec![evidence(
            format!("the kernel's counters of {name}: {of} on {}", self.network),
            format!("packets {direction}: {before} at first, {now} now"),
        )]))
    }
}
