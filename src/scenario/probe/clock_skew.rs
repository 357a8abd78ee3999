//! `clock-skew`: a host's clock is further from this machine's than so much.

use std::time::Duration;

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, arguments};

pub(super) const NAME: &str = "clock-skew";

#[derive(Debug)]
struct ClockSkew {
    host: String,
    over: Duration,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let over = fields.required("over", reader);
    let over = over.map(|node| arguments::duration(reader, Some(node), Duration::ZERO));
    fields.finish(reader);
    Some(Box::new(ClockSkew {
        host: host?,
        over: over?,
    }))
}

#[async_trait]
impl Probe for ClockSkew {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        world.host(&self.host)?;
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        world.state(&self.host).await?;
        let guest = world.guest(&self.host)?;
        let reading = guest.clock(world.drivers.clock.as_ref()).await?;
        let skew = Duration::from_micros(reading.behind_us.unsigned_abs());
        // A reading is wrong by half of its round trip at the most.
        if skew.saturating_sub(reading.round_trip / 2) <= self.over {
            return Ok(Finding::Quiet);
        }
        let (way, round_trip) = (
            if reading.behind_us > 0 {
                "behind"
            } else {
                "ahead of"
            },
            reading.round_trip,
        );
        Ok(Finding::Fired(vec![evidence(
            format!(
                "the clock of {}, asked and answered within {round_trip:?}",
                self.host
            ),
            format!("{} ms {way} this machine's", skew.as_millis()),
        )]))
    }
}
