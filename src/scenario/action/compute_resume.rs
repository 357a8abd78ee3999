//! `compute-resume`: sets nova-compute's `resume_guests_state_on_host_boot`.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};
use crate::wire::Request;

pub(super) const NAME: &str = "compute-resume";

#[derive(Debug)]
struct ComputeResume {
    host: String,
    resume: bool,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    resume: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let words = [("on", true), ("off", false)];
    let resume = fields
        .required("resume", reader)
        .and_then(|node| reader.choice(node, "resume", &words));
    fields.finish(reader);
    Some(Box::new(ComputeResume {
        host: host?,
        resume: resume?,
    }))
}

async fn resume(world: &World, host: &str) -> Result<bool, ActionError> {
    let resume = world.state(host).await?.resume;
    resume.ok_or_else(|| ActionError::Target(format!("{host} is not a compute host")))
}

const fn word(resume: bool) -> &'static str {
    if resume { "on" } else { "off" }
}

#[async_trait]
impl Action for ComputeResume {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "turn resume_guests_state_on_host_boot {} on {}",
            word(self.resume),
            self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let resume = resume(world, &self.host).await?;
        let host = self.host.clone();
        Ok(serde_json::to_value(Captured { host, resume })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let resume = self.resume;
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::ComputeResume { resume }).await?)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let now = resume(world, &self.host).await?;
        let seen = format!("it is {} on {}", word(now), self.host);
        Ok(Verified::new(now == self.resume, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let Captured { host, resume } = serde_json::from_value(captured)?;
    let guest = world.guest(&host)?;
    guest.ask(Request::ComputeResume { resume }).await?;
    Ok(format!("it is {} on {host} again", word(resume)))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[INSIDE, "compute", "resume"])
}
