//! `victim-status`: what Nova says of the instance whose process the kernel killed.

use std::time::Duration;

use super::{oom_victim, serial_log};
use crate::scenario::Evidence;
use crate::scenario::probe::prelude::*;
use crate::wire::NovaStatus;

/// Fires when Nova shows the killed instance with that status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct VictimStatus {
    host: Name,
    status: NovaStatus,
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
    ) -> Result<Vec<Evidence>, FaultError> {
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
            let went = hostnet.reach.connect(*address, port, DEADLINE).await;
            let source = format!("a connection from this machine to {name} at {address}:{port}");
            lost.push(evidence(source, went.to_string()));
        }
        Ok(lost)
    }
}

impl Probe for VictimStatus {
    const NAME: &'static str = "victim-status";
    type Reference = u64;

    async fn begin(&self, world: &World) -> Result<u64, FaultError> {
        serial_log::mark(world, &self.host)
    }

    async fn look(&self, world: &World, begun: &u64, _: &Seen) -> Result<Finding, FaultError> {
        let killed = oom_victim::killed_since(world, &self.host, *begun)?;
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
