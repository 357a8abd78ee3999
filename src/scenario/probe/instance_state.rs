//! `instance-state`: what Nova says of an instance, and whether its process is there.

use crate::scenario::fault;
use crate::scenario::probe::prelude::*;
use crate::wire::NovaStatus;

/// What becomes of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum State {
    Runs,
    Gone,
}

/// Fires when Nova shows it `ACTIVE` or `SHUTOFF`, and its process `runs` or is `gone`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InstanceStatus {
    host: Name,
    instance: String,
    status: NovaStatus,
    /// Whether it has a process; either way where nothing is said.
    #[serde(default)]
    process: Option<State>,
}

impl Probe for InstanceStatus {
    const NAME: &'static str = "instance-state";
    type Reference = ();

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        // An instance that is not there is a mistake in the file, and told at once.
        fault::instance(world, &self.host, &self.instance).await?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        let state = world.state(&self.host).await?;
        let found = state
            .instances
            .iter()
            .find(|one| one.name == self.instance)
            .filter(|one| one.status() == self.status)
            .filter(|one| {
                self.process
                    .is_none_or(|state| (state == State::Runs) == one.process.is_some())
            });
        let Some(found) = found else {
            return Ok(Finding::Quiet);
        };
        let process = found.process.as_ref().map_or_else(
            || "no process".to_owned(),
            |process| format!("process {}", process.pid),
        );
        let record = evidence(
            format!("nova-compute's record on {}, and its /proc", self.host),
            format!("{} is {}, with {process}", found.name, found.status()),
        );
        let about = format!("[instance: {}]", found.name);
        let log = state.nova_log.iter().filter(|line| line.contains(&about));
        let source = format!("nova-compute's log on {}", self.host);
        let log = log.map(|line| evidence(source.as_str(), line.as_str()));
        Ok(Finding::Fired(std::iter::once(record).chain(log).collect()))
    }
}
