//! Whether a lab is as it should be: before the first step, and after the last undo.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{FaultError, World};
use crate::wire::NovaStatus;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Instances and their status, by host.
pub(super) type Instances = BTreeMap<String, BTreeMap<String, bool>>;

/// What is not as it should be; empty when all is well.
async fn ailments(world: &World, before: Option<&Instances>) -> Result<Vec<String>, FaultError> {
    let mut ill = Vec::new();
    for host in world
        .found
        .hosts
        .iter()
        .filter(|host| host.spec.config.is_some())
    {
        let name = host.name.as_str();
        let state = match world.state(name).await {
            Ok(state) => state,
            Err(error) => {
                ill.push(format!("{name}: {error}"));
                continue;
            }
        };
        ill.extend(
            state
                .services
                .iter()
                .filter(|service| service.wanted && !service.healthy)
                .map(|service| format!("{} on {name} is not healthy", service.name)),
        );
        let now: BTreeMap<String, bool> = state
            .instances
            .iter()
            .map(|instance| {
                (
                    instance.name.clone(),
                    instance.status() == NovaStatus::Active,
                )
            })
            .collect();
        let missing_process = state.instances.iter().filter(|instance| {
            instance.status() == NovaStatus::Active && instance.process.is_none()
        });
        ill.extend(
            missing_process.map(|instance| {
                format!("{} on {name} is ACTIVE and has no process", instance.name)
            }),
        );
        if let Some(was) = before.and_then(|before| before.get(name))
            && *was != now
        {
            ill.push(format!(
                "the instances of {name} are not as before: {now:?}, were {was:?}"
            ));
        }
    }
    Ok(ill)
}

/// Waits until all is well; what is not, when the time is over.
pub(super) async fn well(
    world: &World,
    before: Option<&Instances>,
    within: Duration,
) -> Result<(), Vec<String>> {
    let clock = &world.drivers.clock;
    let until = clock.elapsed() + within;
    loop {
        let ill = match ailments(world, before).await {
            Ok(ill) if ill.is_empty() => return Ok(()),
            Ok(ill) => ill,
            Err(error) => vec![error.to_string()],
        };
        if clock.elapsed() >= until {
            return Err(ill);
        }
        clock.sleep(LOOK).await;
    }
}

/// Reads the instances of all hosts.
pub(super) async fn instances(world: &World) -> Result<Instances, FaultError> {
    let mut instances = Instances::new();
    for host in world
        .found
        .hosts
        .iter()
        .filter(|host| host.spec.config.is_some())
    {
        let state = world.state(host.name.as_str()).await?;
        let status = state.instances.iter().map(|instance| {
            (
                instance.name.clone(),
                instance.status() == NovaStatus::Active,
            )
        });
        instances.insert(host.name.to_string(), status.collect());
    }
    Ok(instances)
}
