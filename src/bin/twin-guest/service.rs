//! The services that a guest plays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twin::wire::{HostConfig, ServiceConfig, ServiceState};

use crate::keep::{Holder, Holding, locked};
use crate::procfs;

/// How often a service polls what it polls, as Magnum does its clusters (shared/facts.md 4); divided by the lab's time scale.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    configured: Vec<ServiceConfig>,
    wanted: BTreeSet<String>,
    running: BTreeMap<String, Holder>,
    poll_every: Duration,
}

/// The set of services. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services(Arc<Mutex<State>>);

impl Services {
    /// Takes a new configuration: services that are new start, changed ones restart, ones no longer named stop.
    pub(crate) fn configure(&self, config: &HostConfig) -> Result<(), String> {
        let configured = &config.services;
        let changed: Vec<Holder> = {
            let mut state = locked(&self.0);
            let old = std::mem::replace(&mut state.configured, configured.clone());
            let every = POLL_INTERVAL / config.time_scale.max(1);
            state.poll_every = every.max(Duration::from_secs(1));
            let (fresh, kept): (Vec<_>, Vec<_>) = configured
                .iter()
                .partition(|service| !old.contains(service));
            state
                .wanted
                .retain(|name| kept.iter().any(|service| service.name == *name));
            state
                .wanted
                .extend(fresh.iter().map(|service| service.name.clone()));
            let stale: Vec<String> = state
                .running
                .keys()
                .filter(|name| !kept.iter().any(|service| service.name == **name))
                .cloned()
                .collect();
            stale
                .iter()
                .filter_map(|name| state.running.remove(name))
                .collect()
        };
        changed.iter().for_each(Holder::kill);
        self.converge()
    }

    /// Makes exactly `names` run.
    pub(crate) fn run_exactly(&self, names: &[String]) -> Result<(), String> {
        {
            let mut state = locked(&self.0);
            if let Some(unknown) = names.iter().find(|name| {
                !state
                    .configured
                    .iter()
                    .any(|service| service.name == **name)
            }) {
                return Err(format!("there is no service {unknown}"));
            }
            state.wanted = names.iter().cloned().collect();
        }
        self.converge()
    }

    /// Stops what is not wanted, starts what is.
    fn converge(&self) -> Result<(), String> {
        let mut state = locked(&self.0);
        let unwanted: Vec<String> = state
            .running
            .keys()
            .filter(|name| !state.wanted.contains(*name))
            .cloned()
            .collect();
        for name in unwanted {
            if let Some(holder) = state.running.remove(&name) {
                holder.kill();
            }
        }
        let missing: Vec<ServiceConfig> = state
            .configured
            .iter()
            .filter(|service| {
                state.wanted.contains(&service.name) && !state.running.contains_key(&service.name)
            })
            .cloned()
            .collect();
        for service in missing {
            let holder = self.start(&service, state.poll_every)?;
            state.running.insert(service.name.clone(), holder);
        }
        Ok(())
    }

    fn start(&self, service: &ServiceConfig, every: Duration) -> Result<Holder, String> {
        let holding = Holding {
            comm: service.name.clone(),
            mib: service.memory_mib,
            touch_now: true,
            oom_score_adj: service.oom_score_adj,
            ports: service.ports.clone(),
            polls: service.polls.map(|address| (address, every)),
        };
        let (state, name) = (Arc::clone(&self.0), service.name.clone());
        // A service that dies stays down: that is an incident to be seen (D-041), not one to be masked.
        Holder::start(&holding, move |pid| {
            let mut state = locked(&state);
            if state
                .running
                .get(&name)
                .is_some_and(|holder| holder.pid == pid)
            {
                state.running.remove(&name);
            }
        })
    }

    /// What they are at now.
    pub(crate) fn states(&self) -> Vec<ServiceState> {
        let state = locked(&self.0);
        let one = |service: &ServiceConfig| {
            let holder = state.running.get(&service.name);
            let said = holder.map(Holder::said).unwrap_or_default();
            // A killed process is gone before its follower has its end.
            let process = holder.and_then(|holder| procfs::process(holder.pid));
            let goes_on = process
                .as_ref()
                .is_some_and(|process| !procfs::is_stopped(process.pid));
            ServiceState {
                name: service.name.clone(),
                wanted: state.wanted.contains(&service.name),
                healthy: said.listening && said.touched && goes_on,
                process,
            }
        };
        state.configured.iter().map(one).collect()
    }
}
