//! `instance-kill`: kills an instance's QEMU process inside its host, with the signal that the OOM killer sends.

use crate::scenario::fault::guest::{inside, start_instance};
use crate::scenario::fault::prelude::*;
use crate::wire::{InstanceState, NovaStatus};

/// Kills an instance's QEMU with SIGKILL, inside the host.
///
/// Revert: starts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InstanceKill {
    host: Name,
    instance: String,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    instance: String,
    pid: u32,
}

fn footprint(host: &str, instance: &str) -> Footprint {
    Footprint::of_host(host).owns(&[INSIDE, "instances", "killed", instance])
}

/// Finds an instance on a host.
pub(crate) async fn instance(
    world: &World,
    host: &str,
    name: &str,
) -> Result<InstanceState, FaultError> {
    let state = world.state(host).await?;
    let names: Vec<String> = state.instances.iter().map(|one| one.name.clone()).collect();
    let found = state.instances.into_iter().find(|one| one.name == name);
    found.ok_or_else(|| {
        FaultError::Target(format!(
            "there is no instance {name} on {host}; there is: {}",
            names.join(", ")
        ))
    })
}

impl Fault for InstanceKill {
    const NAME: &'static str = "instance-kill";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("kill the QEMU of {} on {}", self.instance, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.instance)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let found = instance(world, &self.host, &self.instance).await?;
        let Some(process) = found.process else {
            return Err(FaultError::Target(format!(
                "{} has no process on {}",
                self.instance, self.host
            )));
        };
        Ok(Before {
            host: self.host.to_string(),
            instance: self.instance.clone(),
            pid: process.pid,
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let pid = captured.pid.to_string();
        inside::run(world, &self.host, &["kill", "-KILL", &pid]).await?;
        Ok(())
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let found = instance(world, &self.host, &self.instance).await?;
        let gone = found
            .process
            .is_none_or(|process| process.pid != captured.pid);
        let seen = format!(
            "process {} of {} is {}",
            captured.pid,
            self.instance,
            if gone { "gone" } else { "still there" }
        );
        Ok(Effectiveness::new(gone, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.instance)
    }

    fn describe(&self) -> String {
        format!(
            "starts {} on {}, where it does not run",
            self.instance, self.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let (host, name) = (&self.host, &self.instance);
        let found = instance(world, host, name).await?;
        if found.process.is_some() && found.status() == NovaStatus::Active {
            return Ok(format!("{name} runs on {host}"));
        }
        start_instance(world, host, name).await?;
        Ok(format!("{name} started on {host}"))
    }
}
