//! `kernel-log`: a line of a guest kernel's log, as QEMU wrote it to the serial log on this machine.

use super::prelude::*;
use super::serial_log::{self, matching};
use crate::scenario::arguments::Pattern;

/// Fires when a new line of the host's serial log matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct KernelLog {
    host: Name,
    matches: Pattern,
}

impl Probe for KernelLog {
    const NAME: &'static str = "kernel-log";
    type Reference = u64;

    async fn begin(&self, world: &World) -> Result<u64, FaultError> {
        serial_log::mark(world, &self.host)
    }

    async fn look(&self, world: &World, begun: &u64, _: &Seen) -> Result<Finding, FaultError> {
        let source = serial_log::source(world, &self.host);
        matching(world, &self.host, (*begun, &self.matches, &source))
    }
}
