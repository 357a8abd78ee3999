//! `disk-throttle`: limits what a host's disks may do a second, in QEMU.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::Throttle;
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, MACHINE};
use crate::scenario::{ActionError, World};
use crate::units::Mib;

pub(super) const NAME: &str = "disk-throttle";

#[derive(Debug)]
struct DiskThrottle {
    host: String,
    throttle: Throttle,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    throttle: Throttle,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let rate = fields
        .optional("rate")
        .and_then(|node| reader.scalar::<Mib>(node, "size a second"));
    let operations_node = fields.optional("operations");
    let operations: Option<u64> =
        operations_node.and_then(|node| reader.scalar(node, "operations a second"));
    fields.finish(reader);
    let throttle = Throttle {
        bytes: rate.map_or(0, Mib::bytes),
        operations: operations.unwrap_or(0),
    };
    if throttle == Throttle::default() {
        let why = "it limits a rate, or operations, or both";
        reader.bad_value(node, &"nothing", "throttle", &why);
    }
    Some(Box::new(DiskThrottle {
        host: host?,
        throttle,
    }))
}

fn words(throttle: Throttle) -> String {
    let limit = |limit: u64, unit: &str| {
        if limit == 0 {
            format!("any {unit}")
        } else {
            format!("{limit} {unit}")
        }
    };
    format!(
        "{} and {} a second",
        limit(throttle.bytes, "bytes"),
        limit(throttle.operations, "operations")
    )
}

#[async_trait]
impl Action for DiskThrottle {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("let {}'s disks do {}", self.host, words(self.throttle))
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let target = world.target(&self.host)?;
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            throttle: world.drivers.hypervisor.throttle(target).await?,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let target = world.target(&self.host)?;
        let hypervisor = &world.drivers.hypervisor;
        Ok(hypervisor.set_throttle(target, self.throttle).await?)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let target = world.target(&self.host)?;
        let now = world.drivers.hypervisor.throttle(target).await?;
        let seen = format!("QEMU lets {}'s disks do {}", self.host, words(now));
        Ok(Verified::new(now == self.throttle, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, throttle } = serde_json::from_value(captured)?;
    let hypervisor = &world.drivers.hypervisor;
    let target = world.target(&host)?;
    if !hypervisor.anatomy(target).await?.process {
        return Ok(format!(
            "{host} does not run, and has no limits when it does"
        ));
    }
    hypervisor.set_throttle(target, throttle).await?;
    let now = hypervisor.throttle(target).await?;
    if now != throttle {
        return Err(ActionError::Target(format!(
            "{host}'s disks do {}",
            words(now)
        )));
    }
    Ok(format!("{host}'s disks do {} again", words(throttle)))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MACHINE, "throttle"])
}
