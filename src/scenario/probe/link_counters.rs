//! `link-counters`: packets over one of a host's interfaces, as the kernel of this machine counts them at its end of it; or
//! over a network's bridge.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::hostnet::Counters;
use crate::scenario::{ActionError, World, arguments};
use crate::units::Name;

pub(super) const NAME: &str = "link-counters";

#[derive(Debug)]
struct LinkCounters {
    network: String,
    host: Option<String>,
    /// Whether what is sent is counted, seen from the host, or from this machine where it is the bridge.
    sent: bool,
    rises_by: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let network = arguments::network_of(&mut fields, "network", reader);
    let host = fields.optional("host");
    let host: Option<Option<Name>> = match host {
        None => Some(None),
        Some(node) => reader.scalar(node, "host name").map(Some),
    };
    let words = [("sent", true), ("received", false)];
    let sent = fields
        .required("packets", reader)
        .and_then(|node| reader.choice(node, "direction", &words));
    let rises_by = fields
        .required("rise-by", reader)
        .and_then(|node| reader.scalar(node, "count"));
    fields.finish(reader);
    Some(Box::new(LinkCounters {
        network: network?,
        host: host?.map(|name| name.to_string()),
        sent: sent?,
        rises_by: rises_by?,
    }))
}

impl LinkCounters {
    /// The link of this machine that is looked at.
    async fn link(&self, world: &World) -> Result<String, ActionError> {
        match &self.host {
            Some(host) => Ok(world.tap(host, &self.network).await?),
            None => Ok(world.bridge(&self.network)?.to_owned()),
        }
    }

    /// The link's name and its count.
    async fn count(&self, world: &World) -> Result<(String, u64), ActionError> {
        let name = self.link(world).await?;
        let links = world.drivers.hostnet.links().await?;
        let found = links.into_iter().find(|link| link.name == name);
        let Some(found) = found else {
            return Err(ActionError::Target(format!("there is no link {name}")));
        };
        let Counters {
            received_packets,
            sent_packets,
            ..
        } = found.counters;
        // What a host sends, this machine's end of it receives.
        let turned = self.host.is_some();
        let count = if self.sent == turned {
            received_packets
        } else {
            sent_packets
        };
        Ok((name, count))
    }
}

#[async_trait]
impl Probe for LinkCounters {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let (name, count) = self.count(world).await?;
        Ok(serde_json::json!({"link": name, "count": count}))
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let (name, now) = self.count(world).await?;
        // One that was made anew meanwhile counts from zero.
        let same = begun["link"] == name.as_str();
        let before = begun["count"]
            .as_u64()
            .filter(|before| same && *before <= now);
        let before = before.unwrap_or_default();
        if now - before < self.rises_by {
            return Ok(Finding::Quiet);
        }
        let of = self.host.as_deref().unwrap_or("this machine");
        let direction = if self.sent { "sent" } else { "received" };
        Ok(Finding::Fired(vec![evidence(
            format!("the kernel's counters of {name}: {of} on {}", self.network),
            format!("packets {direction}: {before} at first, {now} now"),
        )]))
    }
}
