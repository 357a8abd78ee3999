//! What ran on a host before an action, and making it run again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::services::run_services;
use crate::scenario::{FaultError, World};
use crate::wire::{GuestState, InstanceState, NovaStatus, Request};

/// An instance runs within this.
const STARTS: Duration = Duration::from_secs(20);

/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(300);

/// Services that were meant to run, and instances that ran.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ran {
    services: Vec<String>,
    instances: Vec<String>,
}

fn runs(instance: &InstanceState) -> bool {
    instance.status() == NovaStatus::Active && instance.process.is_some()
}

impl Ran {
    /// Of a host in this state.
    pub(crate) fn of(state: &GuestState) -> Self {
        let services = state.services.iter().filter(|service| service.wanted);
        let instances = state.instances.iter().filter(|instance| runs(instance));
        Self {
            services: services.map(|service| service.name.clone()).collect(),
            instances: instances.map(|instance| instance.name.clone()).collect(),
        }
    }

    /// Makes it run again; returns how many instances were started. What runs is left alone.
    pub(crate) async fn again(&self, world: &World, host: &str) -> Result<usize, FaultError> {
        let guest = world.guest(host)?;
        run_services(guest.as_ref(), &self.services).await?;
        let state = guest.state().await?;
        let mut started = 0;
        for name in &self.instances {
            let mut known = state.instances.iter();
            if !known.any(|instance| instance.name == *name && runs(instance)) {
                start_instance(world, host, name).await?;
                started += 1;
            }
        }
        Ok(started)
    }
}

/// Starts an instance, and waits until it runs. Nova holds one that was killed for running until the kernel has freed its memory, and
/// starts nothing meanwhile: it is asked again.
pub(crate) async fn start_instance(
    world: &World,
    host: &str,
    name: &str,
) -> Result<(), FaultError> {
    let (guest, clock) = (world.guest(host)?, &world.drivers.clock);
    let until = clock.elapsed() + STARTS;
    loop {
        let start = Request::InstanceStart {
            name: name.to_owned(),
        };
        guest.ask(start).await?;
        let state = guest.state().await?;
        let mut known = state.instances.iter();
        if known.any(|instance| instance.name == name && runs(instance)) {
            return Ok(());
        }
        if clock.elapsed() >= until {
            let still = format!("instance {name} on {host} does not run");
            return Err(FaultError::Target(still));
        }
        clock.sleep(LOOK).await;
    }
}
