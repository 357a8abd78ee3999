//! `vm-counter`: a counter of a guest's /proc/vmstat rises. Looked at `after` everything with `exactly`, it tells that the
//! counter rose no further.

use std::time::Duration;

use crate::guest::collect;
use crate::scenario::probe::prelude::*;

/// Reading a file takes no longer, even on a guest that is short of memory.
const DEADLINE: Duration = Duration::from_secs(20);

/// Fires when the counter of /proc/vmstat rose by so much; with `exactly: true`, by no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct VmCounter {
    host: Name,
    counter: String,
    rises_by: u64,
    /// Whether it may rise no further.
    #[serde(default)]
    exactly: bool,
}

impl VmCounter {
    async fn read(&self, world: &World) -> Result<u64, FaultError> {
        let (_, text, _) = collect(
            world.guest(&self.host)?.as_ref(),
            &["cat", "/proc/vmstat"],
            DEADLINE,
        )
        .await?;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| {
            line.strip_prefix(self.counter.as_str())?
                .strip_prefix(' ')?
                .parse()
                .ok()
        });
        value.ok_or_else(|| {
            FaultError::Target(format!(
                "/proc/vmstat on {} has no {}",
                self.host, self.counter
            ))
        })
    }
}

impl Probe for VmCounter {
    const NAME: &'static str = "vm-counter";
    type Reference = u64;

    async fn begin(&self, world: &World) -> Result<u64, FaultError> {
        self.read(world).await
    }

    async fn look(&self, world: &World, begun: &u64, _: &Seen) -> Result<Finding, FaultError> {
        let (before, now) = (*begun, self.read(world).await?);
        // After a boot it counts from zero.
        let rose = now.checked_sub(before).unwrap_or(now);
        if rose < self.rises_by || (self.exactly && rose > self.rises_by) {
            return Ok(Finding::Quiet);
        }
        Ok(Finding::Fired(vec![evidence(
            format!("/proc/vmstat on {}", self.host),
            format!("{} was {before}, is {now}", self.counter),
        )]))
    }
}
