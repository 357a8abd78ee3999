//! `process`: processes of a name run inside a host, or none does.

use crate::scenario::fault;
use crate::scenario::probe::prelude::*;

/// Whether one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    Runs,
    Gone,
}

/// Fires when processes of that name `runs`, or all are `gone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Process {
    host: Name,
    name: String,
    is: State,
}

impl Probe for Process {
    const NAME: &'static str = "process";
    type Reference = ();

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        world.host(&self.host)?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        world.state(&self.host).await?;
        let found = fault::processes(world, &self.host, &self.name).await?;
        if found.is_empty() == (self.is == State::Runs) {
            return Ok(Finding::Quiet);
        }
        let pids: Vec<String> = found
            .iter()
            .map(|(pid, state)| format!("{pid} ({state})"))
            .collect();
        let text = if pids.is_empty() {
            "none".to_owned()
        } else {
            pids.join(", ")
        };
        Ok(Finding::Fired(vec![evidence(
            format!("processes called {} in /proc of {}", self.name, self.host),
            text,
        )]))
    }
}
