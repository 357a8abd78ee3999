//! `console`: a line on a guest's serial console, written by any program.

use super::prelude::*;
use super::serial_log::{self, matching};
use crate::scenario::arguments::Pattern;

/// Fires when a new line of the host's serial console matches, written by any program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Console {
    host: Name,
    matches: Pattern,
}

impl Probe for Console {
    const NAME: &'static str = "console";
    type Reference = u64;

    async fn begin(&self, world: &World) -> Result<u64, FaultError> {
        serial_log::mark(world, &self.host)
    }

    async fn look(&self, world: &World, begun: &u64, _: &Seen) -> Result<Finding, FaultError> {
        let source = format!("the serial console of {}", self.host);
        matching(world, &self.host, (*begun, &self.matches, &source))
    }
}
