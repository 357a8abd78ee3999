//! `service-state`: the services that are meant to run on a host, or one of them, are all `healthy`; or some are `ill`.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, arguments};
use crate::wire::ServiceState as Service;

pub(super) const NAME: &str = "service-state";

#[derive(Debug)]
struct ServiceState {
    host: String,
    service: Option<String>,
    healthy: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let service = fields.optional("service");
    let service = service.map(|node| reader.scalar::<String>(node, "service"));
    let words = [("healthy", true), ("ill", false)];
    let healthy = fields
        .required("is", reader)
        .and_then(|node| reader.choice(node, "state", &words));
    fields.finish(reader);
    Some(Box::new(ServiceState {
        host: host?,
        service: match service {
            None => None,
            Some(named) => Some(named?),
        },
        healthy: healthy?,
    }))
}

/// A service in a word, with its process.
fn told(service: &Service) -> String {
    let word = if service.healthy { "healthy" } else { "ill" };
    match &service.process {
        Some(process) => format!("{} {word}, pid {}", service.name, process.pid),
        None => format!("{} {word}, no process", service.name),
    }
}

#[async_trait]
impl Probe for ServiceState {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let config = world.host(&self.host)?.config();
        let services = config.map(|config| config.services).unwrap_or_default();
        if let Some(named) = &self.service
            && !services.iter().any(|service| service.name == *named)
        {
            let why = format!("{} has no service {named}", self.host);
            return Err(ActionError::Target(why));
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
            return Err(ActionError::Target(why));
        }
        Ok(serde_json::to_value(wanted)?)
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let wanted: Vec<String> = serde_json::from_value(begun.clone())?;
        let state = world.state(&self.host).await?;
        let meant = |service: &&Service| wanted.contains(&service.name);
        let services: Vec<&Service> = state.services.iter().filter(meant).collect();
        if services.iter().all(|service| service.healthy) != self.healthy {
            return Ok(Finding::Quiet);
        }
        let shown = services
            .into_iter()
            .filter(|service| service.healthy == self.healthy);
        let text = shown.map(told).collect::<Vec<_>>().join("; ");
        let source = format!("the processes and ports of the services on {}", self.host);
        Ok(Finding::Fired(vec![evidence(source, text)]))
    }
}
