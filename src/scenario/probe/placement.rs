//! `placement`: whether Placement would let one more instance of a flavor onto a host, by what is reserved and allocated there.

use crate::scenario::fault;
use crate::scenario::probe::prelude::*;
use crate::units::Mib;

/// What Placement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Fits,
    Refused,
}

/// Fires when Placement's arithmetic says that one more `fits`, or is `refused`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Placement {
    host: Name,
    flavor: String,
    one_more: Answer,
}

impl Probe for Placement {
    const NAME: &'static str = "placement";
    type Reference = ();

    async fn begin(&self, world: &World) -> Result<(), FaultError> {
        fault::flavor(world, &self.host, &self.flavor)?;
        Ok(())
    }

    async fn look(&self, world: &World, (): &(), _: &Seen) -> Result<Finding, FaultError> {
        let asked = Mib(fault::flavor(world, &self.host, &self.flavor)?);
        let state = world.state(&self.host).await?;
        let inventory = fault::inventory(world, &self.host, &state)?;
        let used = fault::allocated(&state);
        let checked = inventory.check(used, asked);
        if checked.is_ok() != (self.one_more == Answer::Fits) {
            return Ok(Finding::Quiet);
        }
        let answer = checked.err().map_or_else(
            || "one more fits".to_owned(),
            |refusal| format!("No valid host was found. {refusal}"),
        );
        let text = format!(
            "total {}, reserved {}, ratio {}, allocated {used}: {answer}",
            inventory.total, inventory.reserved, inventory.allocation_ratio
        );
        let source = format!(
            "Placement's arithmetic for one more {} of {asked} on {}",
            self.flavor, self.host
        );
        Ok(Finding::Fired(vec![evidence(source, text)]))
    }
}
