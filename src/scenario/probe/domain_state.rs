//! `domain-state`: what libvirt says of a host's power.

use crate::hypervisor::Power;
use crate::scenario::probe::prelude::*;

/// Fires when libvirt says `running`, `paused`, `shut-off`, `crashed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DomainState {
    host: Name,
    is: Power,
}

impl Probe for DomainState {
    const NAME: &'static str = "domain-state";
    type Reference = ();

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        world.host(&self.host)?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        let host = world.host(&self.host)?;
        let target = host.target(world.found.record.uuid);
        let now = world.drivers.hypervisor.domain.power_state(target).await?;
        if now != self.is {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("libvirt, of domain {}", host.domain.name),
            format!("it is {now:?}"),
        )]))
    }
}
