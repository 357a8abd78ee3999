//! `clock-step`: moves a host's clock.

use crate::scenario::arguments::Period;
use crate::scenario::fault::contract::Captured;
use crate::scenario::fault::prelude::*;
use crate::wire::Request;

/// Its name in files and in the journal.
pub(crate) const NAME: &str = "clock-step";

/// Clocks drift against each other, most of all under emulation; a step is known by more than this.
const SLACK_US: i64 = 250_000;

/// One that is put back is set anew where it is further than this from what it was.
pub(crate) const NEAR_US: i64 = 50_000;

/// The same after a pause that twin made: what many of them leave adds up.
const EXACT_US: i64 = 5_000;

/// The quickest of so many readings counts.
const READINGS: u32 = 5;

/// How often that is tried: a busy machine takes its time between the reading and the setting.
const ATTEMPTS: u32 = 3;

/// Moves the host's clock, also back (`-5m`).
///
/// Revert: the offset to this machine that it had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ClockStep {
    host: Name,
    /// By how much; into the past with a sign.
    by: Period,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    /// How far its clock was behind this machine's.
    behind_us: i64,
    /// How near it is left alone, where not at the usual distance.
    #[serde(default)]
    near_us: Option<i64>,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[MEMORY, "clock"])
}

/// How far a host's clock is behind this machine's.
pub(crate) async fn behind_us(world: &World, host: &str) -> Result<i64, FaultError> {
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

impl Fault for ClockStep {
    const NAME: &'static str = NAME;
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        if self.by.micros().unsigned_abs() > SLACK_US.unsigned_abs() {
            return Ok(());
        }
        let why = "it is written like 90s or -5m, and more than 250ms either way";
        Err(Mistake::of("by", "duration", why))
    }

    fn describe(&self) -> String {
        let seconds = self.by.micros() / 1_000_000;
        format!("move the clock of {} by {seconds} s", self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let host = self.host.to_string();
        let behind_us = behind_us(world, &host).await?;
        Ok(Before {
            host,
            behind_us,
            near_us: None,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let by_us = self.by.micros();
        Ok(world
            .guest(&self.host)?
            .ask(Request::ClockStep { by_us })
            .await?)
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let moved = captured.behind_us - behind_us(world, &self.host).await?;
        let seen = format!("the clock of {} moved by {} ms", self.host, moved / 1000);
        Ok(Effectiveness::new(
            (moved - self.by.micros()).abs() <= SLACK_US,
            seen,
        ))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("sets the clock of {} to what it was", self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self {
            host,
            behind_us,
            near_us,
        } = self;
        settle(world, host, *behind_us, near_us.unwrap_or(NEAR_US)).await
    }
}

/// The prior state of a host that is about to stand still, and whose clock stands still with it.
pub(crate) async fn before_a_pause(world: &World, host: &str) -> Result<Captured, FaultError> {
    let before = Before {
        host: host.to_owned(),
        behind_us: behind_us(world, host).await?,
        near_us: Some(EXACT_US),
    };
    Ok(serde_json::to_value(before)?)
}

/// Sets a host's clock to how far it was behind this machine's; one that is near is left alone, for it drifts by itself.
pub(crate) async fn settle(
    world: &World,
    host: &str,
    was: i64,
    near_us: i64,
) -> Result<String, FaultError> {
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
    Err(FaultError::Target(what))
}
