//! `instance-kill`: kills an instance's QEMU process inside its host, with the signal that the OOM killer sends.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::inside;
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE, text};
use crate::scenario::{ActionError, World};
use crate::wire::{InstanceState, NovaStatus, Request};

pub(super) const NAME: &str = "instance-kill";

#[derive(Debug)]
struct InstanceKill {
    host: String,
    instance: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    instance: String,
    pid: u32,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let instance = fields
        .required("instance", reader)
        .and_then(|node| reader.scalar(node, "instance"));
    fields.finish(reader);
    Some(Box::new(InstanceKill {
        host: host?,
        instance: instance?,
    }))
}

/// Finds an instance on a host.
pub(in super::super) async fn instance(
    world: &World,
    host: &str,
    name: &str,
) -> Result<InstanceState, ActionError> {
    let state = world.state(host).await?;
    let names: Vec<String> = state.instances.iter().map(|one| one.name.clone()).collect();
    let found = state.instances.into_iter().find(|one| one.name == name);
    found.ok_or_else(|| {
        ActionError::Target(format!(
            "there is no instance {name} on {host}; there is: {}",
            names.join(", ")
        ))
    })
}

#[async_trait]
impl Action for InstanceKill {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("kill the QEMU of {} on {}", self.instance, self.host)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let found = instance(world, &self.host, &self.instance).await?;
        let Some(process) = found.process else {
            return Err(ActionError::Target(format!(
                "{} has no process on {}",
                self.instance, self.host
            )));
        };
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            instance: self.instance.clone(),
            pid: process.pid,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let pid = captured.pid.to_string();
        inside::run(world, &self.host, &["kill", "-KILL", &pid]).await?;
        Ok(())
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let found = instance(world, &self.host, &self.instance).await?;
        let gone = found
            .process
            .is_none_or(|process| process.pid != captured.pid);
        let seen = format!(
            "process {} of {} is {}",
            captured.pid,
            self.instance,
            if gone { "gone" } else { "still there" }
        );
        Ok(Verified::new(gone, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let (host, name) = (&captured.host, &captured.instance);
    let found = instance(world, host, name).await?;
    if found.process.is_some() && found.status() == NovaStatus::Active {
        return Ok(format!("{name} runs on {host}"));
    }
    let name = name.clone();
    world
        .guest(host)?
        .ask(Request::InstanceStart { name })
        .await?;
    Ok(format!("{} started on {host}", captured.instance))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(captured: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[INSIDE, "instances", "killed", text(captured, "instance")])
}
