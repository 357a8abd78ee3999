//! `vm-counter`: a counter of a guest's /proc/vmstat rises. Looked at `after` everything with `exactly`, it tells that the
//! counter rose no further.

use std::time::Duration;

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::guest::collect;
use crate::scenario::{ActionError, World, arguments};

pub(super) const NAME: &str = "vm-counter";

/// Reading a file takes no longer, even on a guest that is short of memory.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct VmCounter {
    host: String,
    counter: String,
    rises_by: u64,
    exactly: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let counter = fields
        .required("counter", reader)
        .and_then(|node| reader.scalar(node, "counter"));
    let rises_by = fields
        .required("rises-by", reader)
        .and_then(|node| reader.scalar(node, "number"));
    let exactly = match fields.optional("exactly") {
        Some(node) => reader.scalar(node, "true or false"),
        None => Some(false),
    };
    fields.finish(reader);
    Some(Box::new(VmCounter {
        host: host?,
        counter: counter?,
        rises_by: rises_by?,
        exactly: exactly?,
    }))
}

impl VmCounter {
    async fn read(&self, world: &World) -> Result<u64, ActionError> {
        let (_, text, _) = collect(
            world.guest(&self.host)?.as_ref(),
            &["cat", "/proc/vmstat"],
            DEADLINE,
        )
        .await?;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| {
            line.strip_prefix(self.counter.as_str())?
                .strip_prefix(' ')?
                .parse()
                .ok()
        });
        value.ok_or_else(|| {
            ActionError::Target(format!(
                "/proc/vmstat on {} has no {}",
                self.host, self.counter
            ))
        })
    }
}

#[async_trait]
impl Probe for VmCounter {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        Ok(self.read(world).await?.into())
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let (before, now) = (begun.as_u64().unwrap_or_default(), self.read(world).await?);
        // After a boot it counts from zero.
        let rose = now.checked_sub(before).unwrap_or(now);
        if rose < self.rises_by || (self.exactly && rose > self.rises_by) {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("/proc/vmstat on {}", self.host),
            format!("{} was {before}, is {now}", self.counter),
        )]))
    }
}
