//! `compute-resume`: sets nova-compute's `resume_guests_state_on_host_boot`.

use crate::scenario::arguments::Toggle;
use crate::scenario::fault::prelude::*;
use crate::wire::Request;

/// Turns `resume_guests_state_on_host_boot` `on` or `off`.
///
/// Revert: sets the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ComputeResume {
    host: Name,
    resume: Toggle,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    resume: bool,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[INSIDE, "compute", "resume"])
}

impl Before {
    async fn of(world: &World, host: &str) -> Result<Self, FaultError> {
        let resume = world.state(host).await?.resume;
        let none = || FaultError::Target(format!("{host} is not a compute host"));
        let (host, resume) = (host.to_owned(), resume.ok_or_else(none)?);
        Ok(Self { host, resume })
    }
}

impl Fault for ComputeResume {
    const NAME: &'static str = "compute-resume";
    type Prior = Before;

    fn describe(&self) -> String {
        let word = Toggle::word(self.resume.is_on());
        format!(
            "turn resume_guests_state_on_host_boot {word} on {}",
            self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        Before::of(world, &self.host).await
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let resume = self.resume.is_on();
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::ComputeResume { resume }).await?)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let now = Before::of(world, &self.host).await?.resume;
        let seen = format!("it is {} on {}", Toggle::word(now), self.host);
        Ok(Effectiveness::new(now == self.resume.is_on(), seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        let word = Toggle::word(self.resume);
        format!(
            "turns resume_guests_state_on_host_boot {word} on {}",
            self.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let resume = self.resume;
        let guest = world.guest(&self.host)?;
        guest.ask(Request::ComputeResume { resume }).await?;
        let now = Self::of(world, &self.host).await?.resume;
        if now != resume {
            let word = Toggle::word(now);
            return Err(FaultError::Target(format!(
                "it is still {word} on {}",
                self.host
            )));
        }
        Ok(format!(
            "it is {} on {} again",
            Toggle::word(resume),
            self.host
        ))
    }
}
