//! `memory-balloon`: takes memory away from a host by its balloon, as an overcommitted hypervisor does.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::Power;
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, MACHINE};
use crate::scenario::{ActionError, World};
use crate::units::Mib;

pub(super) const NAME: &str = "memory-balloon";

/// A balloon that is so near is where it was to be: the guest gives and takes whole pages.
const NEAR: Mib = Mib(2);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);

/// A guest takes its memory back within this.
const GIVEN_BACK: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct MemoryBalloon {
    host: String,
    /// What is left to the host, full-size.
    memory: Mib,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    memory_mib: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let memory = fields
        .required("memory", reader)
        .and_then(|node| reader.scalar(node, "size"));
    fields.finish(reader);
    Some(Box::new(MemoryBalloon {
        host: host?,
        memory: memory?,
    }))
}

/// Sets the balloon and waits until the guest has followed, or the time is over; returns where it stands.
async fn set(world: &World, host: &str, memory: Mib, within: Duration) -> Result<Mib, ActionError> {
    let (hypervisor, clock) = (&world.drivers.hypervisor, &world.drivers.clock);
    let target = world.target(host)?;
    hypervisor.set_balloon(target, memory).await?;
    let until = clock.elapsed() + within;
    loop {
        let now = hypervisor.balloon(target).await?;
        if now.0.abs_diff(memory.0) <= NEAR.0 || clock.elapsed() >= until {
            return Ok(now);
        }
        clock.sleep(LOOK).await;
    }
}

impl MemoryBalloon {
    fn wanted(&self, world: &World) -> Mib {
        world.found.record.scale.effective(self.memory)
    }
}

#[async_trait]
impl Action for MemoryBalloon {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("leave {} of memory to {}", self.memory, self.host)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let target = world.target(&self.host)?;
        let now = world.drivers.hypervisor.balloon(target).await?;
        if self.wanted(world).0 + NEAR.0 >= now.0 {
            return Err(ActionError::Target(format!(
                "{} has {now} only, at this lab's scale",
                self.host
            )));
        }
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            memory_mib: now.0,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        within: Duration,
    ) -> Result<(), ActionError> {
        let wanted = self.wanted(world);
        set(world, &self.host, wanted, within).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let target = world.target(&self.host)?;
        let now = world.drivers.hypervisor.balloon(target).await?;
        let effective = now.0 <= self.wanted(world).0 + NEAR.0;
        let seen = format!(
            "libvirt says that the balloon leaves {now} to {}",
            self.host
        );
        Ok(Verified::new(effective, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, memory_mib } = serde_json::from_value(captured)?;
    let (hypervisor, target) = (&world.drivers.hypervisor, world.target(&host)?);
    let anatomy = hypervisor.anatomy(target).await?;
    if !anatomy.process {
        return Ok(format!(
            "{host} does not run, and has all of its memory when it does"
        ));
    }
    if anatomy.power != Power::Running {
        hypervisor.set_balloon(target, Mib(memory_mib)).await?;
        return Ok(format!("{host} has its memory back once it goes on"));
    }
    let now = set(world, &host, Mib(memory_mib), GIVEN_BACK).await?;
    if now.0 + NEAR.0 < memory_mib {
        return Err(ActionError::Target(format!(
            "{host} has {now} of {} back",
            Mib(memory_mib)
        )));
    }
    Ok(format!("{host} has {now} again"))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MACHINE, "balloon"])
}
