//! `exec`: a command inside a host ends with a code, and writes something that matches.

use crate::scenario::arguments::Pattern;
use crate::scenario::fault;
use crate::scenario::probe::prelude::*;

/// Characters of output that are shown.
const SHOWN: usize = 2000;

/// Fires when a shell command inside the host ends so, and its output matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Exec {
    host: Name,
    command: String,
    /// The exit code.
    #[serde(default)]
    exit: i32,
    /// What the output has to match.
    #[serde(default)]
    matches: Option<Pattern>,
}

impl Probe for Exec {
    const NAME: &'static str = "exec";
    type Reference = ();

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        world.host(&self.host)?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        world.state(&self.host).await?;
        let argv = ["sh", "-c", self.command.as_str()];
        let (code, stdout, _) = fault::inside::attempt(world, &self.host, &argv).await?;
        let found = self
            .matches
            .as_ref()
            .is_none_or(|matches| matches.is_match(&stdout));
        if code != self.exit || !found {
            return Ok(Finding::Quiet);
        }
        let shown: String = stdout.chars().take(SHOWN).collect();
        Ok(Finding::Fired(vec![evidence(
            format!("`{}` on {}, exit {code}", self.command, self.host),
            shown.trim_end(),
        )]))
    }
}
