//! `instance-fill`: boots instances of a flavor on a host for as long as Placement lets one in.

use crate::model::placement::Inventory;
use crate::scenario::fault::prelude::*;
use crate::units::Mib;
use crate::wire::{GuestState, Request};

/// More instances than any host carries.
const MOST: usize = 512;

/// Boots instances until Placement refuses one.
///
/// Revert: deletes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InstanceFill {
    host: Name,
    flavor: String,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    flavor_mib: u64,
    /// The instances that will be made.
    names: Vec<String>,
    /// What Placement says of one more, where it refuses it.
    refusal: Option<String>,
}

/// The MiB of a flavor that a host's instances can have.
pub(crate) fn flavor(world: &World, host: &str, flavor: &str) -> Result<u64, FaultError> {
    let compute = world.compute(host)?;
    let found = compute.flavors.get(flavor).copied();
    found.ok_or_else(|| FaultError::Target(format!("there is no flavor {flavor}")))
}

/// What Placement has of a host.
pub(crate) fn inventory(
    world: &World,
    host: &str,
    state: &GuestState,
) -> Result<Inventory, FaultError> {
    let compute = world.compute(host)?;
    Ok(Inventory {
        total: Mib(compute.total_mib),
        reserved: Mib(state.reserved_mib.unwrap_or(compute.reserved_mib)),
        allocation_ratio: compute.ram_allocation_ratio,
    })
}

/// What is allocated: a stopped instance keeps its allocation.
pub(crate) fn allocated(state: &GuestState) -> Mib {
    state
        .instances
        .iter()
        .map(|instance| Mib(instance.flavor_mib))
        .sum()
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).sets(&[INSIDE, "instances", "filled"])
}

/// That none of these instances is there.
pub(crate) fn none_of(state: &GuestState, host: &str, names: &[String]) -> Result<(), FaultError> {
    let there = state.instances.iter().map(|instance| &instance.name);
    let there: Vec<&str> = there
        .filter(|name| names.contains(name))
        .map(String::as_str)
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    let there = there.join(", ");
    Err(FaultError::Target(format!(
        "instances are still on {host}: {there}"
    )))
}

impl Fault for InstanceFill {
    const NAME: &'static str = "instance-fill";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "boot instances of flavor {} on {} until Placement refuses one",
            self.flavor, self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let flavor_mib = flavor(world, &self.host, &self.flavor)?;
        let state = world.state(&self.host).await?;
        let inventory = inventory(world, &self.host, &state)?;
        let (mut used, mut names) = (allocated(&state), Vec::new());
        let refusal = loop {
            match inventory.check(used, Mib(flavor_mib)) {
                Err(refusal) => break Some(refusal.to_string()),
                Ok(()) if names.len() == MOST => break None,
                Ok(()) => {
                    names.push(format!("fill-{}-{}", world.run, names.len()));
                    used += Mib(flavor_mib);
                }
            }
        };
        Ok(Before {
            host: self.host.to_string(),
            flavor_mib,
            names,
            refusal,
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let guest = world.guest(&self.host)?;
        for name in &captured.names {
            guest
                .ask(Request::InstanceBoot(
                    world.instance(name, captured.flavor_mib),
                ))
                .await?;
        }
        Ok(())
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let state = world.state(&self.host).await?;
        let running = captured
            .names
            .iter()
            .filter(|name| {
                state
                    .instances
                    .iter()
                    .any(|instance| instance.name == **name && instance.process.is_some())
            })
            .count();
        let one_more = captured.refusal.as_ref().map_or_else(
            || "would fit".to_owned(),
            |refusal| format!("no valid host ({refusal})"),
        );
        let seen = format!(
            "{running} of {} booted, {} of flavors on {}; one more: {one_more}",
            captured.names.len(),
            allocated(&state),
            self.host,
        );
        let refusal = captured.refusal.clone();
        Ok(Effectiveness {
            effective: running == captured.names.len() && refusal.is_some(),
            seen,
            refused: refusal.map(|refusal| format!("No valid host was found. {refusal}")),
        })
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("deletes {} instances from {}", self.names.len(), self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let guest = world.guest(&self.host)?;
        for name in &self.names {
            guest
                .ask(Request::InstanceDelete { name: name.clone() })
                .await?;
        }
        none_of(&guest.state().await?, &self.host, &self.names)?;
        let count = self.names.len();
        Ok(format!("{count} instances deleted from {}", self.host))
    }
}
