//! Following the memory of hosts while a variant runs, for its report.

use std::convert::Infallible;
use std::time::Duration;

use super::engine::Engine;
use super::events::RunEvent;
use super::result::MemorySample;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);

impl Engine<'_> {
    /// Samples these hosts until dropped. A host that does not answer leaves a gap.
    pub(super) async fn sample(&self, hosts: &[String], begun: Duration) -> Infallible {
        let world = self.world;
        loop {
            for host in hosts {
                let Ok(state) = world.state(host).await else {
                    continue;
                };
                let memory = state.memory;
                self.happens(RunEvent::Sampled(MemorySample {
                    host: host.clone(),
                    at_ms: world.since(begun),
                    total_bytes: memory.total_kib * 1024,
                    available_bytes: memory.available_kib * 1024,
                    psi_full_avg10: memory.psi_full_avg10,
                    psi_full_total_us: memory.psi_full_total_us,
                    swap_total_bytes: memory.swap_total_kib * 1024,
                    swap_used_bytes: memory.swap_total_kib.saturating_sub(memory.swap_free_kib)
                        * 1024,
                    oom_kills: memory.oom_kill,
                }));
            }
            world.drivers.clock.sleep(EVERY).await;
        }
    }
}
