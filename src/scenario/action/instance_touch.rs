//! `instance-touch`: has a host's instances write to all of their memory, one after the other in the seed's order, until
//! the host's kernel kills something or all have.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};
use crate::units::Random;
use crate::wire::{GuestState, NovaStatus, Request};

pub(super) const NAME: &str = "instance-touch";

/// How often is looked how far one is.
const LOOK: Duration = Duration::from_millis(200);

/// Of its memory, what a touched instance holds at least.
const TOUCHED_PERCENT: u64 = 90;

#[derive(Debug)]
struct InstanceTouch {
    host: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    /// Instances that ran, and whether all of their memory was written to.
    running: Vec<(String, bool)>,
    oom_kill: u64,
    rss_kib: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    fields.finish(reader);
    Some(Box::new(InstanceTouch { host: host? }))
}

fn rss_kib(state: &GuestState) -> u64 {
    state
        .instances
        .iter()
        .filter_map(|instance| instance.process.as_ref())
        .map(|process| process.rss_kib)
        .sum()
}

#[async_trait]
impl Action for InstanceTouch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "have the instances on {} write to all of their memory, until its kernel kills something",
            self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let state = world.state(&self.host).await?;
        let active = state.instances.iter().filter(|instance| {
            instance.status() == NovaStatus::Active && instance.process.is_some()
        });
        let running = active
            .map(|instance| (instance.name.clone(), instance.touched))
            .collect();
        let captured = Captured {
            host: self.host.clone(),
            running,
            oom_kill: state.memory.oom_kill,
            rss_kib: rss_kib(&state),
        };
        Ok(serde_json::to_value(captured)?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        within: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let guest = world.guest(&self.host)?;
        let clock = &world.drivers.clock;
        let until = clock.elapsed() + within;
        let mut names: Vec<&String> = captured.running.iter().map(|(name, _)| name).collect();
        Random::new(world.seed).shuffle(&mut names);
        for name in names {
            guest
                .ask(Request::InstanceTouch { name: name.clone() })
                .await?;
            loop {
                let state = guest.state().await?;
                if state.memory.oom_kill > captured.oom_kill {
                    return Ok(());
                }
                let instance = state
                    .instances
                    .iter()
                    .find(|instance| instance.name == *name);
                if instance.is_none_or(|instance| instance.touched || instance.process.is_none()) {
                    break;
                }
                if clock.elapsed() >= until {
                    return Err(ActionError::Deadline {
                        last: format!(
                            "{name} holds {} KiB",
                            instance
                                .and_then(|instance| instance.process.as_ref())
                                .map_or(0, |process| process.rss_kib)
                        ),
                    });
                }
                clock.sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let state = world.state(&self.host).await?;
        let killed = state.memory.oom_kill - captured.oom_kill.min(state.memory.oom_kill);
        let full = state.instances.iter().filter(|instance| {
            instance.process.as_ref().is_some_and(|process| {
                process.rss_kib * 100 >= instance.memory_mib * 1024 * TOUCHED_PERCENT
            })
        });
        let full = full.count();
        let now = rss_kib(&state);
        let seen = format!(
            "{full} of {} instances hold {TOUCHED_PERCENT} % of their memory, {} MiB in all (were {} MiB); {killed} killed by the kernel",
            captured.running.len(),
            now / 1024,
            captured.rss_kib / 1024
        );
        // Some are full and, unless the kernel stopped it, all are.
        let effective = full > 0 && (killed > 0 || full == captured.running.len());
        Ok(Verified::new(effective, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let guest = world.guest(&captured.host)?;
    let state = guest.state().await?;
    let mut restarted = 0;
    for (name, touched) in &captured.running {
        let Some(instance) = state
            .instances
            .iter()
            .find(|instance| instance.name == *name)
        else {
            continue;
        };
        let as_before = instance.process.is_some()
            && instance.status() == NovaStatus::Active
            && (*touched || !instance.touching);
        if !as_before {
            // A fresh process holds no memory, as the one before the touch did.
            guest
                .ask(Request::InstanceStop { name: name.clone() })
                .await?;
            guest
                .ask(Request::InstanceStart { name: name.clone() })
                .await?;
            restarted += 1;
        }
    }
    Ok(format!(
        "{restarted} instances on {} started anew",
        captured.host
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().sets(&[INSIDE, "touched"])
}
