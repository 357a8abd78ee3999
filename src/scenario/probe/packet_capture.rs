//! `packet-capture`: packets on one of the lab's bridges that match a filter, as tcpdump on this machine sees them.

use crate::hostnet::{self, Captured};
use crate::scenario::arguments::one;
use crate::scenario::probe::prelude::*;

/// More packets than this are not captured.
const MOST: u64 = 200;

/// Packets that are shown as evidence.
const SHOWN: usize = 5;

/// Fires when tcpdump on the lab's bridge saw so many packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PacketCapture {
    network: Name,
    /// As tcpdump has it.
    filter: String,
    #[serde(default = "one")]
    at_least: u64,
}

impl Probe for PacketCapture {
    const NAME: &'static str = "packet-capture";
    type Reference = Box<dyn hostnet::PacketCapture>;

    fn check(&self) -> Result<(), Mistake> {
        if self.filter.trim_start().starts_with('-') {
            let why = "it begins with a dash, which tcpdump takes for an option";
            return Err(Mistake::of("filter", "filter", why));
        }
        if !(1..=MOST).contains(&self.at_least) {
            let why = format!("it is 1 to {MOST}: no more are captured");
            return Err(Mistake::of("at-least", "count", why));
        }
        Ok(())
    }

    async fn preview(&self, world: &World) -> Result<(), FaultError> {
        world.bridge(&self.network).map(drop)
    }

    async fn begin(&self, world: &World) -> Result<Box<dyn hostnet::PacketCapture>, FaultError> {
        let bridge = world.bridge(&self.network)?;
        let hostnet = &world.drivers.hostnet;
        Ok(hostnet.reach.capture(bridge, &self.filter).await?)
    }

    async fn look(
        &self,
        world: &World,
        begun: &Box<dyn hostnet::PacketCapture>,
        _: &Seen,
    ) -> Result<Finding, FaultError> {
        let bridge = world.bridge(&self.network)?;
        let Captured {
            packets: lines,
            ended,
        } = begun.captured();
        let few = (lines.len() as u64) < self.at_least;
        if few && ended {
            let why = format!("the capture on {bridge} has ended");
            return Err(FaultError::Target(why));
        }
        if few {
            return Ok(Finding::Quiet);
        }
        let source = format!("tcpdump on {bridge}, {}", self.filter);
        let count = evidence(source.as_str(), format!("{} packets", lines.len()));
        let shown = lines
            .iter()
            .take(SHOWN)
            .map(|line| evidence(source.as_str(), line.as_str()));
        Ok(Finding::Fired(
            std::iter::once(count).chain(shown).collect(),
        ))
    }
}
