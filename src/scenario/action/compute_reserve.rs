//! `compute-reserve`: sets nova-compute's `reserved_host_memory_mb`.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use crate::diagnostics::{Node, Reader};
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{Footprint, INSIDE};
use crate::scenario::{ActionError, World};
use crate::units::Mib;
use crate::wire::Request;

pub(super) const NAME: &str = "compute-reserve";

#[derive(Debug)]
struct ComputeReserve {
    host: String,
    memory: Mib,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    host: String,
    reserved_mib: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let memory = fields
        .required("memory", reader)
        .and_then(|node| reader.scalar(node, "size"));
    fields.finish(reader);
    Some(Box::new(ComputeReserve {
        host: host?,
        memory: memory?,
    }))
}

async fn reserved(world: &World, host: &str) -> Result<u64, ActionError> {
    world
        .state(host)
        .await?
        .reserved_mib
        .ok_or_else(|| ActionError::Target(format!("{host} is not a compute host")))
}

#[async_trait]
impl Action for ComputeReserve {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!("have nova-compute on {} reserve {}", self.host, self.memory)
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let reserved_mib = reserved(world, &self.host).await?;
        Ok(serde_json::to_value(Captured {
            host: self.host.clone(),
            reserved_mib,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        Ok(world
            .guest(&self.host)?
            .ask(Request::ComputeReserve {
                reserved_mib: self.memory.0,
            })
            .await?)
    }

    async fn verify(&self, world: &World, _: &serde_json::Value) -> Result<Verified, ActionError> {
        let now = Mib(reserved(world, &self.host).await?);
        Ok(Verified::new(
            now == self.memory,
            format!("{} reserves {now}", self.host),
        ))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    world
        .guest(&captured.host)?
        .ask(Request::ComputeReserve {
            reserved_mib: captured.reserved_mib,
        })
        .await?;
    Ok(format!(
        "{} reserves {} again",
        captured.host,
        Mib(captured.reserved_mib)
    ))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    Footprint::default().owns(&[INSIDE, "compute", "reserved"])
}
