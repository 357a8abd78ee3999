//! `service-run`: makes exactly some of a host's services run: `all`, `none`, or names with commas between.

use super::services::{Services, footprint};
use crate::scenario::fault::prelude::*;
use crate::wire::Request;

/// How often is looked whether they are healthy.
const LOOK: Duration = Duration::from_millis(300);

/// Runs `all`, `none`, or the named services.
///
/// Revert: runs those before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServiceRun {
    host: Name,
    /// `all`, `none`, or names with commas between.
    services: String,
}

impl ServiceRun {
    fn wanted(&self, captured: &Services) -> Vec<String> {
        match self.services.as_str() {
            "all" => captured.all.clone(),
            "none" => Vec::new(),
            names => names
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect(),
        }
    }

    /// Which services are not as wanted.
    async fn astray(&self, world: &World, wanted: &[String]) -> Result<Vec<String>, FaultError> {
        let state = world.state(&self.host).await?;
        let astray = state.services.iter().filter(|service| {
            let wanted = wanted.contains(&service.name);
            if wanted {
                !service.healthy
            } else {
                service.process.is_some()
            }
        });
        Ok(astray.map(|service| service.name.clone()).collect())
    }
}

impl Fault for ServiceRun {
    const NAME: &'static str = "service-run";
    type Prior = Services;

    fn describe(&self) -> String {
        format!("run these services on {}: {}", self.host, self.services)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Services, FaultError> {
        Services::of(world, &self.host).await
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Services,
        within: Duration,
    ) -> Result<(), FaultError> {
        let wanted = self.wanted(captured);
        world
            .guest(&self.host)?
            .ask(Request::ServicesRun {
                names: wanted.clone(),
            })
            .await?;
        let until = world.drivers.clock.elapsed() + within;
        loop {
            let astray = self.astray(world, &wanted).await?;
            if astray.is_empty() {
                return Ok(());
            }
            if world.drivers.clock.elapsed() >= until {
                return Err(FaultError::Deadline {
                    last: format!("not as wanted: {}", astray.join(", ")),
                });
            }
            world.drivers.clock.sleep(LOOK).await;
        }
    }

    async fn verify(
        &self,
        world: &World,
        captured: &Services,
    ) -> Result<Effectiveness, FaultError> {
        let wanted = self.wanted(captured);
        let astray = self.astray(world, &wanted).await?;
        let seen = if astray.is_empty() {
            format!("{} of {} services run", wanted.len(), captured.all.len())
        } else {
            format!("not as wanted: {}", astray.join(", "))
        };
        Ok(Effectiveness::new(astray.is_empty(), seen))
    }
}
