//! `victim-status`: what Nova says of the instance whose process the kernel killed.

use std::time::Duration;

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use super::{kernel_log, oom_victim};
use crate::diagnostics::{Node, Reader};
use crate::scenario::Evidence;
use crate::scenario::{ActionError, World, arguments};
use crate::wire::NovaStatus;

pub(super) const NAME: &str = "victim-status";

#[derive(Debug)]
struct VictimStatus {
    host: String,
    status: NovaStatus,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let words = [
        ("SHUTOFF", NovaStatus::Shutoff),
        ("ACTIVE", NovaStatus::Active),
    ];
    let status = fields
        .required("status", reader)
        .and_then(|node| reader.choice(node, "status", &words));
    fields.finish(reader);
    Some(Box::new(VictimStatus {
        host: host?,
        status: status?,
    }))
}

/// A connection to what it served that takes longer counts as timed out.
const DEADLINE: Duration = Duration::from_secs(3);

impl VictimStatus {
    /// What is lost with the instance: what it served no longer answers, and Placement counts its memory all the same.
    async fn lost(
        &self,
        world: &World,
        name: &str,
        flavor_mib: u64,
    ) -> Result<Vec<Evidence>, ActionError> {
        let kept = format!("{flavor_mib} MiB of {name} stay allocated while it is stopped");
        let mut lost = vec![evidence(
            format!("Placement's count for {}", self.host),
            kept,
        )];
        let instances = world.compute(&self.host)?.instances;
        let known = instances.into_iter().find(|one| one.name == name);
        let nics = world.host(&self.host)?.config().map(|config| config.nics);
        let address = nics.iter().flatten().flat_map(|nic| &nic.addresses).next();
        let ports = known.map(|known| known.ports).unwrap_or_default();
        for (port, (address, _)) in ports.into_iter().zip(address.into_iter().cycle()) {
            let hostnet = &world.drivers.hostnet;
            let went = hostnet.connect(*address, port, DEADLINE).await;
            let source = format!("a connection from this machine to {name} at {address}:{port}");
            lost.push(evidence(source, went.to_string()));
        }
        Ok(lost)
    }
}

#[async_trait]
impl Probe for VictimStatus {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        Ok(kernel_log::mark(world, &self.host)?.into())
    }

    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let killed =
            oom_victim::killed_since(world, &self.host, begun.as_u64().unwrap_or_default())?;
        if killed.is_empty() {
            return Ok(Finding::Quiet);
        }
        let state = world.state(&self.host).await?;
        let victim = killed
            .iter()
            .find_map(|one| oom_victim::instance_of(&state.instances, one));
        let Some(victim) = victim.filter(|victim| victim.status() == self.status) else {
            return Ok(Finding::Quiet);
        };
        let about = format!("[instance: {}]", victim.name);
        let log = state
            .nova_log
            .iter()
            .filter(|line| line.contains(&about))
            .map(|line| {
                evidence(
                    format!("nova-compute's log on {}", self.host),
                    line.as_str(),
                )
            });
        let status = evidence(
            format!("nova-compute's record on {}", self.host),
            format!("instance {} is {}", victim.name, victim.status()),
        );
        let lost = self.lost(world, &victim.name, victim.flavor_mib).await?;
        Ok(Finding::Fired(
            std::iter::once(status).chain(lost).chain(log).collect(),
        ))
    }
}
