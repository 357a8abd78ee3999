//! `clock-step`: moves a host's clock.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, MEMORY};
use crate::scenario::{ActionError, World};
use crate::wire::Request;

pub(in super::super) const NAME: &str = "clock-step";

/// Clocks drift against each other, most of all under emulation; a step is known by more than this.
const SLACK_US: i64 = 250_000;

/// One that is put back is set anew where it is further than this from what it was.
pub(super) const NEAR_US: i64 = 50_000;

/// The same after a pause that twin made: what many of them leave adds up.
const EXACT_US: i64 = 5_000;

/// The quickest of so many readings counts.
const READINGS: u32 = 5;

/// How often that is tried: a busy machine takes its time between the reading and the setting.
const ATTEMPTS: u32 = 3;

#[derive(Debug)]
struct ClockStep {
    host: String,
    by_us: i64,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    /// How far its clock was behind this machine's.
    behind_us: i64,
    /// How near it is left alone, where not at the usual distance.
    #[serde(default)]
    near_us: Option<i64>,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let by_node = fields.required("by", reader);
    let by: Option<String> = by_node.and_then(|node| reader.scalar(node, "duration"));
    fields.finish(reader);
    let by = by?;
    let parsed = by.parse::<jiff::SignedDuration>().ok();
    let by_us = parsed.and_then(|by| i64::try_from(by.as_micros()).ok());
    if by_us.is_none_or(|by_us| by_us.abs() <= SLACK_US) {
        let why = "it is written like 90s or -5m, and more than 250ms either way";
        reader.bad_value(by_node?, &by, "duration", &why);
    }
    Some(Box::new(ClockStep {
        host: host?,
        by_us: by_us?,
    }))
}

/// How far a host's clock is behind this machine's.
pub(super) async fn behind_us(world: &World, host: &str) -> Result<i64, ActionError> {
    let guest = world.guest(host)?;
    let mut best = guest.clock(world.drivers.clock.as_ref()).await?;
    // A reading is wrong by at most half of what it took.
    for _ in 1..READINGS {
        let reading = guest.clock(world.drivers.clock.as_ref()).await?;
        if reading.round_trip < best.round_trip {
            best = reading;
        }
    }
    Ok(best.behind_us)
}

#[async_trait]
impl Action for ClockStep {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        let seconds = self.by_us / 1_000_000;
        format!("move the clock of {} by {seconds} s", self.host)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let host = self.host.clone();
        let behind_us = behind_us(world, &host).await?;
        Ok(serde_json::to_value(Captured {
            host,
            behind_us,
            near_us: None,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let by_us = self.by_us;
        Ok(world
            .guest(&self.host)?
            .ask(Request::ClockStep { by_us })
            .await?)
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let moved = captured.behind_us - behind_us(world, &self.host).await?;
        let seen = format!("the clock of {} moved by {} ms", self.host, moved / 1000);
        Ok(Verified::new((moved - self.by_us).abs() <= SLACK_US, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured {
        host,
        behind_us,
        near_us,
    } = serde_json::from_value(captured)?;
    settle(world, &host, behind_us, near_us.unwrap_or(NEAR_US)).await
}

/// What [`undo`] takes for a host that is about to stand still, and whose clock stands still with it.
pub(in super::super) async fn before_a_pause(
    world: &World,
    host: &str,
) -> Result<serde_json::Value, ActionError> {
    Ok(serde_json::to_value(Captured {
        host: host.to_owned(),
        behind_us: behind_us(world, host).await?,
        near_us: Some(EXACT_US),
    })?)
}

/// Sets a host's clock to how far it was behind this machine's; one that is near is left alone, for it drifts by itself.
pub(super) async fn settle(
    world: &World,
    host: &str,
    was: i64,
    near_us: i64,
) -> Result<String, ActionError> {
    let mut off = behind_us(world, host).await? - was;
    for _ in 0..ATTEMPTS {
        if off.abs() <= near_us {
            break;
        }
        let guest = world.guest(host)?;
        guest.ask(Request::ClockStep { by_us: off }).await?;
        off = behind_us(world, host).await? - was;
    }
    let what = format!("the clock of {host} is {} ms from what it was", -off / 1000);
    if off.abs() <= SLACK_US {
        return Ok(what);
    }
    Err(ActionError::Target(what))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[MEMORY, "clock"])
}
