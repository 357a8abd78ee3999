//! `service-stop`: stops one service of a host; the others go on.

use super::run_services;
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

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    wanted: Vec<String>,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host)
        .owns(&[INSIDE, "services"])
        .reads(&[MEMORY, "signals"])
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
    type Prior = Before;

    fn describe(&self) -> String {
        format!("stop {} on {}", self.service, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        if self.service(world).await?.process.is_none() {
            return Err(FaultError::Target(format!(
                "{} does not run on {}",
                self.service, self.host
            )));
        }
        let services = world.state(&self.host).await?.services;
        let wanted = services.into_iter().filter(|service| service.wanted);
        Ok(Before {
            host: self.host.to_string(),
            wanted: wanted.map(|service| service.name).collect(),
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let mut names = captured.wanted.clone();
        names.retain(|name| *name != self.service);
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::ServicesRun { names }).await?)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let stopped = self.service(world).await?.process.is_none();
        let word = if stopped { "has no process" } else { "runs" };
        let seen = format!("{} on {} {word}", self.service, self.host);
        Ok(Effectiveness::new(stopped, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("runs {} services on {} again", self.wanted.len(), self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let count = self.wanted.len();
        run_services(world.guest(&self.host)?.as_ref(), &self.wanted).await?;
        Ok(format!("{count} services run on {} again", self.host))
    }
}
