//! Which of a host's services are meant to run, for [`service-run`](super::service_run) and [`service-stop`](super::service_stop).

use crate::guest::Guest;
use crate::scenario::fault::prelude::*;
use crate::wire::Request;

/// The services that are meant to run before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Services {
    host: String,
    pub(super) wanted: Vec<String>,
    /// All that the host has.
    #[serde(default)]
    pub(super) all: Vec<String>,
}

pub(super) fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host)
        .owns(&[INSIDE, "services"])
        .reads(&[MEMORY, "signals"])
}

impl Services {
    pub(super) async fn of(world: &World, host: &str) -> Result<Self, FaultError> {
        let services = world.state(host).await?.services;
        let wanted = services.iter().filter(|service| service.wanted);
        Ok(Self {
            host: host.to_owned(),
            wanted: wanted.map(|service| service.name.clone()).collect(),
            all: services.into_iter().map(|service| service.name).collect(),
        })
    }
}

impl Prior for Services {
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

/// Makes exactly these services run, and sees that the guest took it so; it does not wait until they are healthy.
pub(crate) async fn run_services(guest: &dyn Guest, names: &[String]) -> Result<(), FaultError> {
    let names = names.to_vec();
    guest
        .ask(Request::ServicesRun {
            names: names.clone(),
        })
        .await?;
    let services = guest.state().await?.services;
    let astray = services
        .iter()
        .filter(|one| one.wanted != names.contains(&one.name));
    let astray: Vec<&str> = astray.map(|one| one.name.as_str()).collect();
    if astray.is_empty() {
        return Ok(());
    }
    let astray = astray.join(", ");
    Err(FaultError::Target(format!(
        "services are not as they were: {astray}"
    )))
}
