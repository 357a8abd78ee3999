//! `clock-skew`: a host's clock is further from this machine's than so much.

use std::time::Duration;

use crate::scenario::arguments::Period;
use crate::scenario::probe::prelude::*;

/// Fires when the host's clock is further than that from this machine's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ClockSkew {
    host: Name,
    /// By more than this.
    over: Period,
}

impl Probe for ClockSkew {
    const NAME: &'static str = "clock-skew";
    type Reference = ();

    fn check(&self) -> Result<(), Mistake> {
        self.over.check("over")
    }

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        world.host(&self.host)?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        world.state(&self.host).await?;
        let guest = world.guest(&self.host)?;
        let reading = guest.clock(world.drivers.clock.as_ref()).await?;
        let skew = Duration::from_micros(reading.behind_us.unsigned_abs());
        // A reading is wrong by half of its round trip at the most.
        if skew.saturating_sub(reading.round_trip / 2) <= self.over.duration() {
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
