//! `net-emulate`: delay, loss, corruption and a rate on one of a host's interfaces, by netem inside the guest.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use crate::diagnostics::{Node, Reader};
use crate::hostnet::HANDLE;
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, MEMORY, PLUGGED, text};
use crate::scenario::{ActionError, World, arguments};
use crate::units::Name;

pub(super) const NAME: &str = "net-emulate";

/// The handle of a discipline that the kernel gave an interface by itself; any other is somebody's, and left alone.
const OF_THE_KERNEL: &str = "0:";

#[derive(Debug)]
struct NetEmulate {
    host: String,
    nic: String,
    delay: Duration,
    loss: f64,
    corrupt: f64,
    /// Bits a second, in thousands.
    rate_kbit: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    nic: String,
    /// The handle of the one that is made; an older twin had none of its own.
    #[serde(default)]
    handle: Option<String>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let keys = ["delay", "loss", "corrupt", "rate-kbit"];
    let asked = keys.iter().any(|key| fields.has(key));
    let host = host_of(&mut fields, reader);
    let nic: Option<Name> = fields
        .required("nic", reader)
        .and_then(|node| reader.scalar(node, "interface name"));
    let delay = fields.optional("delay");
    let delay = arguments::duration(reader, delay, Duration::ZERO);
    let loss = arguments::percent(&mut fields, "loss", reader);
    let corrupt = arguments::percent(&mut fields, "corrupt", reader);
    let rate_kbit: Option<u64> = fields
        .optional("rate-kbit")
        .and_then(|node| reader.scalar(node, "thousands of bits a second"));
    fields.finish(reader);
    if !asked {
        let why = "it emulates a delay, loss, corrupt, rate-kbit, or several of them";
        reader.bad_value(node, &"nothing", "emulation", &why);
    }
    Some(Box::new(NetEmulate {
        host: host?,
        nic: nic?.to_string(),
        delay,
        loss: loss.unwrap_or_default(),
        corrupt: corrupt.unwrap_or_default(),
        rate_kbit,
    }))
}

/// The root disciplines of an interface, as tc names them.
async fn disciplines(world: &World, host: &str, nic: &str) -> Result<Vec<Discipline>, ActionError> {
    let argv = ["tc", "-j", "qdisc", "show", "dev", nic];
    let said = inside::run(world, host, &argv).await?;
    Ok(serde_json::from_str(&said)?)
}

/// Refuses where an interface has another root discipline than the kernel's or twin's.
pub(super) async fn none_by_hand(world: &World, host: &str, nic: &str) -> Result<(), ActionError> {
    none_but(&[OF_THE_KERNEL, HANDLE], world, host, nic).await
}

async fn none_but(
    handles: &[&str],
    world: &World,
    host: &str,
    nic: &str,
) -> Result<(), ActionError> {
    let found = disciplines(world, host, nic).await?;
    let other = |one: &&Discipline| one.root && !handles.contains(&one.handle.as_str());
    let Some(other) = found.iter().find(other) else {
        return Ok(());
    };
    Err(ActionError::Target(format!(
        "{nic} of {host} has a discipline already, {}, which is left alone",
        other.kind
    )))
}

#[derive(Deserialize)]
struct Discipline {
    kind: String,
    handle: String,
    #[serde(default)]
    root: bool,
    #[serde(default)]
    options: serde_json::Value,
}

impl NetEmulate {
    /// Whether a discipline does what was asked for.
    fn is_it(&self, found: &Discipline) -> bool {
        // tc tells shares as fractions, and delays in seconds.
        let number = |pointer: &str| {
            found
                .options
                .pointer(pointer)
                .and_then(serde_json::Value::as_f64)
        };
        let near = |pointer: &str, wanted: f64| {
            (number(pointer).unwrap_or_default() - wanted).abs() < 0.001
        };
        found.kind == "netem"
            && found.handle == HANDLE
            && near("/delay/delay", self.delay.as_secs_f64())
            && near("/loss-random/loss", self.loss / 100.0)
            && near("/corrupt/corrupt", self.corrupt / 100.0)
            && self.rate_kbit.is_none_or(|kbit| {
                // In bytes a second.
                found
                    .options
                    .pointer("/rate/rate")
                    .and_then(serde_json::Value::as_u64)
                    == Some(kbit * 1000 / 8)
            })
    }
}

#[async_trait]
impl Action for NetEmulate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        let rate = self.rate_kbit;
        let rate = rate.map_or_else(String::new, |kbit| format!(", {kbit} kbit a second"));
        format!(
            "on {} of {}: delay {:?}, lose {} %, corrupt {} %{rate}",
            self.nic, self.host, self.delay, self.loss, self.corrupt
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        none_but(&[OF_THE_KERNEL], world, &self.host, &self.nic).await?;
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            nic: self.nic.clone(),
            handle: Some(HANDLE.into()),
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let delay = format!("{}us", self.delay.as_micros());
        let (loss, corrupt) = (format!("{}%", self.loss), format!("{}%", self.corrupt));
        let rate = self.rate_kbit.map(|kbit| format!("{kbit}kbit"));
        let mut argv = vec![
            "tc", "qdisc", "replace", "dev", &self.nic, "root", "handle", HANDLE, "netem", "delay",
            &delay, "loss", &loss, "corrupt", &corrupt,
        ];
        argv.extend(rate.iter().flat_map(|rate| ["rate", rate.as_str()]));
        inside::run(world, &self.host, &argv).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let found = disciplines(world, &self.host, &self.nic).await?;
        let kinds: Vec<&str> = found.iter().map(|one| one.kind.as_str()).collect();
        let seen = format!(
            "tc shows on {} of {}: {}",
            self.nic,
            self.host,
            kinds.join(", ")
        );
        Ok(Verified::new(found.iter().any(|one| self.is_it(one)), seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, nic, handle } = serde_json::from_value(captured)?;
    let ours = |one: &Discipline| {
        let mut handle = handle.iter();
        one.kind == "netem" && handle.all(|handle| *handle == one.handle)
    };
    let emulated = |found: &[Discipline]| found.iter().any(ours);
    if emulated(&disciplines(world, &host, &nic).await?) {
        inside::run(world, &host, &["tc", "qdisc", "del", "dev", &nic, "root"]).await?;
    }
    if emulated(&disciplines(world, &host, &nic).await?) {
        return Err(ActionError::Target(format!(
            "{nic} of {host} still has twin's netem"
        )));
    }
    Ok(format!("{nic} of {host} has no discipline of twin's"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(captured: &serde_json::Value) -> Footprint {
    Footprint::default()
        .owns(&[MEMORY, "net", "qdisc", text(captured, "nic")])
        .reads(PLUGGED)
}
