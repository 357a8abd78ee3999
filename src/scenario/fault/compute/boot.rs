//! `instance-boot`: boots one instance of a flavor on a host, where Placement lets it in.

use super::fill::{allocated, flavor, inventory, none_of};
use crate::scenario::fault::prelude::*;
use crate::units::Mib;
use crate::wire::{NovaStatus, Request};

/// Boots one instance where Placement lets it in; to be refused is an answer too.
///
/// Revert: deletes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InstanceBoot {
    host: Name,
    flavor: String,
    name: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    name: String,
    flavor_mib: u64,
    /// What Placement refuses it with.
    refusal: Option<String>,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).sets(&[INSIDE, "instances", "booted"])
}

impl Fault for InstanceBoot {
    const NAME: &'static str = "instance-boot";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "boot instance {} of flavor {} on {}",
            self.name, self.flavor, self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let flavor_mib = flavor(world, &self.host, &self.flavor)?;
        let state = world.state(&self.host).await?;
        if state.instances.iter().any(|known| known.name == *self.name) {
            return Err(FaultError::Target(format!(
                "there is an instance {} on {} already",
                self.name, self.host
            )));
        }
        let checked =
            inventory(world, &self.host, &state)?.check(allocated(&state), Mib(flavor_mib));
        Ok(Before {
            host: self.host.to_string(),
            name: self.name.to_string(),
            flavor_mib,
            refusal: checked.err().map(|refusal| refusal.to_string()),
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        if captured.refusal.is_some() {
            return Ok(());
        }
        let instance = world.instance(&captured.name, captured.flavor_mib);
        let guest = world.guest(&self.host)?;
        Ok(guest.ask(Request::InstanceBoot(instance)).await?)
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let state = world.state(&self.host).await?;
        let found = state.instances.iter().find(|one| one.name == *self.name);
        let runs =
            found.is_some_and(|one| one.status() == NovaStatus::Active && one.process.is_some());
        // To be refused is an answer too, and `scheduler-refused` looks for it.
        if let Some(refusal) = &captured.refusal {
            let refused = format!("No valid host was found. {refusal}");
            return Ok(Effectiveness {
                effective: found.is_none(),
                seen: refused.clone(),
                refused: Some(refused),
            });
        }
        let word = if runs { "runs" } else { "does not run" };
        let seen = format!("instance {} {word} on {}", self.name, self.host);
        Ok(Effectiveness::new(runs, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("deletes instance {} from {}", self.name, self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, name, .. } = self;
        let guest = world.guest(host)?;
        let delete = Request::InstanceDelete { name: name.clone() };
        guest.ask(delete).await?;
        none_of(&guest.state().await?, host, std::slice::from_ref(name))?;
        Ok(format!("instance {name} deleted from {host}"))
    }
}
