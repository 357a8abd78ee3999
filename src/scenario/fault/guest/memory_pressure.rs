//! `memory-pressure`: a process inside a host holds memory.

use super::load::{Load, Running, footprint};
use crate::scenario::fault::prelude::*;
use crate::units::Mib;

/// Holds so much memory (full-size, scaled with the lab).
///
/// Revert: ends its process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MemoryPressure {
    host: Name,
    /// Full-size.
    memory: Mib,
}

impl MemoryPressure {
    /// At this lab's scale.
    fn mib(&self, world: &World) -> u64 {
        world.found.record.scale.effective(self.memory).0
    }

    fn is_held(&self, world: &World) -> impl Fn(&Running) -> bool + use<> {
        let kib = self.mib(world) * 1024;
        move |now| now.count == 1 && now.kib * 10 >= kib * 9
    }
}

impl Fault for MemoryPressure {
    const NAME: &'static str = "memory-pressure";
    type Prior = Load;

    fn describe(&self) -> String {
        format!("hold {} of memory on {}", self.memory, self.host)
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
        let (process, mib) = (&prior.process, self.mib(world));
        // It outlives the session that starts it. A holder ends with its input, which stays open as long as the shell.
        let script = format!(
            "(setsid sh -c 'mkfifo /run/{process}; exec 3<>/run/{process}; exec twin-guest hold {process} {mib} now 0 <&3' >/dev/null 2>&1 &)"
        );
        let held = self.is_held(world);
        prior.start(world, &script, within, held).await
    }

    async fn verify(&self, world: &World, prior: &Load) -> Result<Effectiveness, FaultError> {
        prior.effectiveness(world, self.is_held(world)).await
    }
}
