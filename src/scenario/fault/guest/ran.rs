//! What ran on a host before an action, and making it run again.

use serde::{Deserialize, Serialize};

use super::services::run_services;
use crate::guest::Guest;
use crate::scenario::FaultError;
use crate::wire::{GuestState, InstanceState, NovaStatus, Request};

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
    pub(crate) async fn again(&self, guest: &dyn Guest) -> Result<usize, FaultError> {
        run_services(guest, &self.services).await?;
        let state = guest.state().await?;
        let mut started = 0;
        for name in &self.instances {
            let mut known = state.instances.iter();
            if !known.any(|instance| instance.name == *name && runs(instance)) {
                let name = name.clone();
                guest.ask(Request::InstanceStart { name }).await?;
                started += 1;
            }
        }
        let now = guest.state().await?;
        let is_there = |name: &&String| {
            let mut known = now.instances.iter();
            known.any(|instance| instance.name == **name && runs(instance))
        };
        if let Some(name) = self.instances.iter().find(|name| !is_there(name)) {
            return Err(FaultError::Target(format!("instance {name} does not run")));
        }
        Ok(started)
    }
}
