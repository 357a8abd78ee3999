//! `cpu-pressure`: processes inside a host keep CPUs busy.

use super::load::{Load, Running, footprint};
use crate::scenario::fault::prelude::*;

/// Keeps so many CPUs busy.
///
/// Revert: ends its processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CpuPressure {
    host: Name,
    cpus: u32,
}

impl Fault for CpuPressure {
    const NAME: &'static str = "cpu-pressure";
    type Prior = Load;

    fn describe(&self) -> String {
        format!("keep {} CPUs of {} busy", self.cpus, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Load, FaultError> {
        Load::of(world, &self.host).await
    }

    async fn inject(
        &self,
        world: &World,
        prior: &Load,
        within: Duration,
    ) -> Result<(), FaultError> {
        let (process, cpus) = (&prior.process, self.cpus);
        let script = format!(
            "for i in $(seq {cpus}); do (setsid sh -c 'printf %s {process} > /proc/$$/comm; while :; do :; done' >/dev/null 2>&1 </dev/null &); done"
        );
        let all = |now: &Running| now.count == cpus;
        prior.start(world, &script, within, all).await
    }

    async fn verify(&self, world: &World, prior: &Load) -> Result<Effectiveness, FaultError> {
        prior
            .effectiveness(world, |now| now.count == self.cpus)
            .await
    }
}
