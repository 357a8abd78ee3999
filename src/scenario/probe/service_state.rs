//! `service-state`: the services that are meant to run on a host, or one of them, are all `healthy`; or some are `ill`.

use crate::scenario::probe::prelude::*;
use crate::wire::ServiceState as Service;

/// How they are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    Healthy,
    Ill,
}

/// Fires when all services that were meant to run on the host before the first step, or the one, are `healthy`; or some are
/// `ill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServiceState {
    host: Name,
    /// All that are meant to run where none is named.
    #[serde(default)]
    service: Option<String>,
    is: State,
}

impl ServiceState {
    fn is_healthy(&self) -> bool {
        self.is == State::Healthy
    }
}

/// A service in a word, with its process.
fn told(service: &Service) -> String {
    let word = if service.healthy { "healthy" } else { "ill" };
    match &service.process {
        Some(process) => format!("{} {word}, pid {}", service.name, process.pid),
        None => format!("{} {word}, no process", service.name),
    }
}

impl Probe for ServiceState {
    const NAME: &'static str = "service-state";
    type Reference = Vec<String>;

    async fn begin(&self, world: &World) -> Result<Vec<String>, FaultError> {
        let config = world.host(&self.host)?.config();
        let services = config.map(|config| config.services).unwrap_or_default();
        if let Some(named) = &self.service
            && !services.iter().any(|service| service.name == *named)
        {
            let why = format!("{} has no service {named}", self.host);
            return Err(FaultError::Target(why));
        }
        // Those that are meant to run now: what a step stops is no longer meant to.
        let wanted = match (&self.service, world.state(&self.host).await) {
            (Some(named), _) => vec![named.clone()],
            (None, Ok(state)) => {
                let wanted = state.services.into_iter().filter(|service| service.wanted);
                wanted.map(|service| service.name).collect()
            }
            (None, Err(_)) => services.into_iter().map(|service| service.name).collect(),
        };
        if wanted.is_empty() {
            let why = format!("no service is meant to run on {}", self.host);
            return Err(FaultError::Target(why));
        }
        Ok(wanted)
    }

    async fn look(
        &self,
        world: &World,
        begun: &Vec<String>,
        _: &Seen,
    ) -> Result<Finding, FaultError> {
        let state = world.state(&self.host).await?;
        let meant = |service: &&Service| begun.contains(&service.name);
        let services: Vec<&Service> = state.services.iter().filter(meant).collect();
        if services.iter().all(|service| service.healthy) != self.is_healthy() {
            return Ok(Finding::Quiet);
        }
        let shown = services
            .into_iter()
            .filter(|service| service.healthy == self.is_healthy());
        let text = shown.map(told).collect::<Vec<_>>().join("; ");
        let source = format!("the processes and ports of the services on {}", self.host);
        Ok(Finding::Fired(vec![evidence(source, text)]))
    }
}
