//! `host-autostart`: sets whether libvirt starts a host's domain when this machine boots.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, SETTINGS};
use crate::scenario::{ActionError, World};

pub(in super::super) const NAME: &str = "host-autostart";

#[derive(Debug)]
struct HostAutostart {
    host: String,
    autostart: bool,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    autostart: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let words = [("on", true), ("off", false)];
    let autostart = fields
        .required("autostart", reader)
        .and_then(|node| reader.choice(node, "autostart", &words));
    fields.finish(reader);
    Some(Box::new(HostAutostart {
        host: host?,
        autostart: autostart?,
    }))
}

const fn word(autostart: bool) -> &'static str {
    if autostart { "on" } else { "off" }
}

async fn read(world: &World, host: &str) -> Result<bool, ActionError> {
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.autostart(target).await?)
}

async fn set(world: &World, host: &str, autostart: bool) -> Result<(), ActionError> {
    let target = world.target(host)?;
    let hypervisor = &world.drivers.hypervisor;
    Ok(hypervisor.set_autostart(target, autostart).await?)
}

#[async_trait]
impl Action for HostAutostart {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "turn libvirt's autostart {} for {}",
            word(self.autostart),
            self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let autostart = read(world, &self.host).await?;
        let host = self.host.clone();
        Ok(serde_json::to_value(Captured { host, autostart })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        set(world, &self.host, self.autostart).await
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let now = read(world, &self.host).await?;
        let seen = format!("it is {} for {}", word(now), self.host);
        Ok(Verified::new(now == self.autostart, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, autostart } = serde_json::from_value(captured)?;
    set(world, &host, autostart).await?;
    Ok(format!("it is {} for {host} again", word(autostart)))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[SETTINGS, &["autostart"]].concat())
}
