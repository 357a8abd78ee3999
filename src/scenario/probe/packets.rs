//! `packets`: a named counter of nftables inside a host has counted so many packets since the first look.

use crate::hypervisor::Power;
use crate::scenario::arguments::one;
use crate::scenario::fault;
use crate::scenario::probe::prelude::*;

fn pod() -> String {
    fault::POD_TABLE.to_owned()
}

/// Fires when a counter of nftables inside the host counted so many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Packets {
    host: Name,
    #[serde(default = "pod")]
    table: String,
    counter: Name,
    #[serde(default = "one")]
    at_least: u64,
}

impl Packets {
    /// What it has counted; nothing where there is no such counter.
    async fn count(&self, world: &World) -> Result<Option<u64>, FaultError> {
        let argv = [
            "nft",
            "-j",
            "list",
            "counter",
            "ip",
            &self.table,
            &self.counter,
        ];
        let (code, said, errors) = fault::inside::attempt(world, &self.host, &argv).await?;
        if code != 0 && errors.contains("No such file or directory") {
            return Ok(None);
        }
        if code != 0 {
            let why = format!("nft on {} ended with {code}: {}", self.host, errors.trim());
            return Err(FaultError::Target(why));
        }
        let document: serde_json::Value = serde_json::from_str(&said)?;
        let mut items = document["nftables"].as_array().into_iter().flatten();
        Ok(items.find_map(|item| item["counter"]["packets"].as_u64()))
    }
}

impl Probe for Packets {
    const NAME: &'static str = "packets";
    type Reference = u64;

    async fn begin(&self, world: &World) -> Result<u64, FaultError> {
        // A step may make it, and one that does not run has counted nothing.
        let power = world
            .drivers
            .hypervisor
            .domain
            .power_state(world.target(&self.host)?)
            .await?;
        if power != Power::Running {
            return Ok(0);
        }
        Ok(self.count(world).await?.unwrap_or(0))
    }

    async fn look(&self, world: &World, begun: &u64, _: &Seen) -> Result<Finding, FaultError> {
        let now = self.count(world).await?;
        let now =
            now.ok_or_else(|| FaultError::Target(format!("there is no counter {}", self.counter)))?;
        // One that was made anew meanwhile counts from zero.
        let packets = now.checked_sub(*begun).unwrap_or(now);
        if packets < self.at_least {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("nftables' counter {} on {}", self.counter, self.host),
            format!("{packets} packets"),
        )]))
    }
}
