//! `forward-rejects`: this machine has refused packets on their way into a network: the counters of the rules that do so, of
//! iptables or nftables, made by any program.

use std::collections::BTreeMap;

use crate::scenario::arguments::one;
use crate::scenario::probe::prelude::*;

/// The tools whose rules count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Tool {
    #[default]
    Any,
    Iptables,
    Nftables,
}

impl Tool {
    /// What the place of its rules begins with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Iptables => "iptables ",
            Self::Nftables => "nftables ",
        }
    }
}

/// Fires when rules of this machine, by `iptables`, `nftables` or `any`, refused so many packets on their way into the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ForwardRejects {
    network: Name,
    /// Only rules of this tool.
    #[serde(default)]
    by: Tool,
    #[serde(default = "one")]
    at_least: u64,
}

impl ForwardRejects {
    /// Packets refused so far, by rule.
    async fn counts(&self, world: &World) -> Result<BTreeMap<String, u64>, FaultError> {
        let bridge = world.bridge(&self.network)?;
        let rejections = world.drivers.hostnet.firewall.rejections(bridge).await?;
        let mut counts = BTreeMap::new();
        for one in rejections {
            if one.place.starts_with(self.by.prefix()) {
                *counts.entry(one.place).or_insert(0) += one.packets;
            }
        }
        Ok(counts)
    }
}

impl Probe for ForwardRejects {
    const NAME: &'static str = "forward-rejects";
    type Reference = BTreeMap<String, u64>;

    async fn begin(&self, world: &World) -> Result<BTreeMap<String, u64>, FaultError> {
        self.counts(world).await
    }

    async fn look(
        &self,
        world: &World,
        begun: &BTreeMap<String, u64>,
        _: &Seen,
    ) -> Result<Finding, FaultError> {
        let bridge = world.bridge(&self.network)?;
        let mut found = Vec::new();
        let mut refused = 0;
        for (place, now) in self.counts(world).await? {
            let was = begun.get(&place).copied().unwrap_or(0);
            let rose = now.saturating_sub(was);
            if rose > 0 {
                refused += rose;
                found.push(evidence(
                    format!("{place}, which refuses what goes to {bridge}"),
                    format!("{was} packets at first, {now} now"),
                ));
            }
        }
        Ok(if refused >= self.at_least {
            Finding::Fired(found)
        } else {
            Finding::Quiet
        })
    }
}
