//! `nic-bandwidth`: limits what one of a host's interfaces receives, at this machine's end of it, as a slow switch port does. What a
//! host sends is limited inside it: `net-emulate`.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::host_power::power_state;
use crate::diagnostics::{Node, Reader};
use crate::hostnet::Bandwidth;
use crate::hypervisor::Power;
use crate::scenario::arguments::{host_of, network_of};
use crate::scenario::footprint::{Footprint, MACHINE, text};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "nic-bandwidth";

/// Less than this, and nothing comes through at all.
const LEAST_KBIT: u64 = 8;

/// More than any link, and the most that is counted in bits without overflow.
const MOST_KBIT: u64 = 1_000_000_000;

#[derive(Debug)]
struct NicBandwidth {
    host: String,
    network: String,
    kbit: u64,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    network: String,
    kbit: u64,
    was: Bandwidth,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let network = network_of(&mut fields, "network", reader);
    let rate = fields.required("rate-kbit", reader);
    let kbit: Option<u64> = rate.and_then(|node| reader.scalar(node, "kbit a second"));
    fields.finish(reader);
    let kbit = kbit?;
    if !(LEAST_KBIT..=MOST_KBIT).contains(&kbit) {
        let why = format!("it is between {LEAST_KBIT} and {MOST_KBIT}");
        reader.bad_value(rate?, &kbit, "kbit a second", &why);
    }
    Some(Box::new(NicBandwidth {
        host: host?,
        network: network?,
        kbit,
    }))
}

fn words(bandwidth: &Bandwidth) -> String {
    match bandwidth {
        Bandwidth::Unlimited { .. } => "anything".into(),
        Bandwidth::Limited { kbit } => format!("{kbit} kbit a second"),
        Bandwidth::Foreign { kind } => format!("what somebody's {kind} lets"),
    }
}

/// How this machine's end of an interface is limited; refuses where somebody has done that by hand.
pub(super) async fn limit(
    world: &World,
    host: &str,
    network: &str,
) -> Result<Bandwidth, ActionError> {
    let tap = world.tap(host, network).await?;
    match world.drivers.hostnet.bandwidth(&tap).await? {
        Bandwidth::Foreign { kind } => Err(ActionError::Target(format!(
            "somebody has put a {kind} on {tap}, which is left alone"
        ))),
        ours => Ok(ours),
    }
}

#[async_trait]
impl Action for NicBandwidth {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "let {} of {} through to {}",
            words(&Bandwidth::Limited { kbit: self.kbit }),
            self.network,
            self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let was = limit(world, &self.host, &self.network).await?;
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            network: self.network.clone(),
            kbit: self.kbit,
            was,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let tap = world.tap(&self.host, &self.network).await?;
        let hostnet = &world.drivers.hostnet;
        let limit = Bandwidth::Limited { kbit: self.kbit };
        Ok(hostnet.set_bandwidth(&tap, &limit).await?)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let tap = world.tap(&self.host, &self.network).await?;
        let now = world.drivers.hostnet.bandwidth(&tap).await?;
        let seen = format!("{tap} lets {} through", words(&now));
        let limit = Bandwidth::Limited { kbit: self.kbit };
        Ok(Verified::new(now == limit, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured {
        host,
        network,
        kbit,
        was,
    } = serde_json::from_value(captured)?;
    // The limit is on the end that a running host has here, and goes with it.
    let power = power_state(world, &host).await?;
    let taps = if power == Power::ShutOff || power == Power::Crashed {
        Vec::new()
    } else {
        let target = world.target(&host)?;
        world.drivers.hypervisor.anatomy(target).await?.taps
    };
    let mac = world.mac(&host, &network)?;
    let Some((_, tap)) = taps.into_iter().find(|(of, _)| *of == mac) else {
        return Ok(format!(
            "{host} is not plugged into {network}, and has no limit when it is"
        ));
    };
    let hostnet = &world.drivers.hostnet;
    // A host that was started meanwhile has a new end, with another's rule perhaps.
    let limit = Bandwidth::Limited { kbit };
    if hostnet.bandwidth(&tap).await? == limit {
        hostnet.set_bandwidth(&tap, &was).await?;
    }
    let now = hostnet.bandwidth(&tap).await?;
    if now == limit && was != limit {
        return Err(ActionError::Target(format!(
            "{tap} lets {} through still",
            words(&now)
        )));
    }
    Ok(format!(
        "{} of {network} comes through to {host} again",
        words(&now)
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(captured: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MACHINE, "bandwidth", text(captured, "network")])
}
