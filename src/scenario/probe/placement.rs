//! `placement`: whether Placement would let one more instance of a flavor onto a host, by what is reserved and allocated there.

use async_trait::async_trait;

use super::contract::{Finding, Probe, Seen, evidence};
use crate::diagnostics::{Node, Reader};
use crate::scenario::{ActionError, World, action, arguments};
use crate::units::Mib;

pub(super) const NAME: &str = "placement";

#[derive(Debug)]
struct Placement {
    host: String,
    flavor: String,
    fits: bool,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Probe>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = arguments::host_of(&mut fields, reader);
    let flavor = fields
        .required("flavor", reader)
        .and_then(|node| reader.scalar(node, "flavor"));
    let words = [("fits", true), ("refused", false)];
    let fits = fields
        .required("one-more", reader)
        .and_then(|node| reader.choice(node, "answer", &words));
    fields.finish(reader);
    Some(Box::new(Placement {
        host: host?,
        flavor: flavor?,
        fits: fits?,
    }))
}

#[async_trait]
impl Probe for Placement {
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        action::flavor(world, &self.host, &self.flavor)?;
        Ok(serde_json::Value::Null)
    }

    async fn look(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: &Seen,
    ) -> Result<Finding, ActionError> {
        let asked = Mib(action::flavor(world, &self.host, &self.flavor)?);
        let state = world.state(&self.host).await?;
        let inventory = action::inventory(world, &self.host, &state)?;
        let used = action::allocated(&state);
        let checked = inventory.check(used, asked);
        if checked.is_ok() != self.fits {
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
