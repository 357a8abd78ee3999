//! `service-stop`: stops one service of a host; the others go on.

use super::services::{Services, footprint};
use crate::scenario::fault::prelude::*;
use crate::wire::{Request, ServiceState};

/// Stops one service.
///
/// Revert: runs those that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServiceStop {
    host: Name,
    service: String,
}

impl ServiceStop {
    async fn service(&self, world: &World) -> Result<ServiceState, FaultError> {
        let services = world.state(&self.host).await?.services;
        let names: Vec<String> = services.iter().map(|one| one.name.clone()).collect();
        let found = services.into_iter().find(|one| one.name == self.service);
        found.ok_or_else(|| {
            FaultError::Target(format!(
                "there is no service {} on {}; there is: {}",
                self.service,
                self.host,
                names.join(", ")
            ))
        })
    }
}

impl Fault for ServiceStop {
    const NAME: &'static str = "service-stop";
    type Prior = Services;

    fn describe(&self) -> String {
        format!("stop {} on {}", self.service, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Services, FaultError> {
        if self.service(world).await?.process.is_none() {
            return Err(FaultError::Target(format!(
                "{} does not run on {}",
                self.service, self.host
            )));
        }
        Services::of(world, &self.host).await
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Services,
        _: Duration,
    ) -> Result<(), FaultError> {
        let mut names = captured.wanted.clone();
        names.retain(|name| *name != self.service);
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::ServicesRun { names }).await?)
    }

    async fn verify(&self, world: &World, _: &Services) -> Result<Effectiveness, FaultError> {
        let stopped = self.service(world).await?.process.is_none();
        let word = if stopped { "has no process" } else { "runs" };
        let seen = format!("{} on {} {word}", self.service, self.host);
        Ok(Effectiveness::new(stopped, seen))
    }
}
