//! `forward-rejects`: this machine has refused packets on their way into a network: the counters of the rules that do so, of
//! iptables or nftables, whoever made them.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, arguments};

pub(super) const NAME: &str = "forward-rejects";

#[derive(Debug)]
struct ForwardRejects {
    network: String,
    /// Only rules of this tool.
    by: &'static str,
    at_least: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let network = arguments::network_of(&mut fields, "network", reader);
    // Nothing before the name of either.
    let words = [
        ("any", ""),
        ("iptables", "iptables "),
        ("nftables", "nftables "),
    ];
    let by = fields.optional("by");
    let by = by.map_or(Some(""), |node| reader.choice(node, "tool", &words));
    let at_least = fields.optional("at-least");
    let at_least = at_least.map_or(Some(1), |node| reader.scalar(node, "count"));
    fields.finish(reader);
    Some(Box::new(ForwardRejects {
        network: network?,
        by: by?,
        at_least: at_least?,
    }))
}

impl ForwardRejects {
    /// Packets refused so far, by rule.
    async fn counts(&self, world: &World) -> Result<BTreeMap<String, u64>, ActionError> {
        let bridge = world.bridge(&self.network)?;
        let rejections = world.drivers.hostnet.rejections(bridge).await?;
        let mut counts = BTreeMap::new();
        for one in rejections {
            if one.place.starts_with(self.by) {
                *counts.entry(one.place).or_insert(0) += one.packets;
            }
        }
        Ok(counts)
    }
}

#[async_trait]
impl Probe for ForwardRejects {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        Ok(serde_json::to_value(self.counts(world).await?)?)
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let before: BTreeMap<String, u64> = serde_json::from_value(begun.clone())?;
        let bridge = world.bridge(&self.network)?;
        let mut found = Vec::new();
        let mut refused = 0;
        for (place, now) in self.counts(world).await? {
            let was = before.get(&place).copied().unwrap_or(0);
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
