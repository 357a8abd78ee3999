//! `packet-capture`: packets on one of the lab's bridges that match a filter, as tcpdump on this machine sees them.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::hostnet::{self, Captured};
use crate::scenario::{ActionError, World, arguments};

pub(super) const NAME: &str = "packet-capture";

/// More packets than this are not captured.
const MOST: usize = 200;

/// Packets that are shown as evidence.
const SHOWN: usize = 5;

#[derive(Debug)]
struct PacketCapture {
    network: String,
    filter: String,
    at_least: usize,
    capture: Mutex<Option<Box<dyn hostnet::PacketCapture>>>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let network = arguments::network_of(&mut fields, "network", reader);
    let filter_node = fields.required("filter", reader);
    let filter = filter_node.and_then(|node| reader.scalar::<String>(node, "filter"));
    if let (Some(node), Some(filter)) = (filter_node, &filter)
        && filter.trim_start().starts_with('-')
    {
        let why = "it begins with a dash, which tcpdump takes for an option";
        reader.bad_value(node, filter, "filter", &why);
    }
    let at_least_node = fields.optional("at-least");
    let at_least = at_least_node.map_or(Some(1), |node| reader.scalar(node, "count"));
    fields.finish(reader);
    if let (Some(node), Some(count)) = (at_least_node, at_least)
        && !(1..=MOST).contains(&count)
    {
        let why = format!("it is 1 to {MOST}: no more are captured");
        reader.bad_value(node, &count, "count", &why);
    }
    Some(Box::new(PacketCapture {
        network: network?,
        filter: filter?,
        at_least: at_least?,
        capture: Mutex::default(),
    }))
}

#[async_trait]
impl Probe for PacketCapture {
    async fn check(&self, world: &World) -> Result<(), ActionError> {
        world.bridge(&self.network).map(drop)
    }

    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let bridge = world.bridge(&self.network)?;
        let hostnet = &world.drivers.hostnet;
        let capture = hostnet.capture(bridge, &self.filter).await?;
        *self.capture.lock().unwrap_or_else(PoisonError::into_inner) = Some(capture);
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let bridge = world.bridge(&self.network)?;
        let held = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(capture) = &*held else {
            return Err(ActionError::Target("nothing is captured".into()));
        };
        let Captured {
            packets: lines,
            ended,
        } = capture.captured();
        if lines.len() < self.at_least && ended {
            let why = format!("the capture on {bridge} has ended");
            return Err(ActionError::Target(why));
        }
        if lines.len() < self.at_least {
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
