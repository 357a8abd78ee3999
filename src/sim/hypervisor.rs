//! The simulated hypervisor.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::world::{SimDomain, SimNetwork, SimWorld, State};
use crate::hostnet::{Counters, Link};
use crate::hypervisor::{
    Devices, Domains, FilesOf, HypervisorError, Inventory, Machine, Networks, NicState,
    ObservedDomain, ObservedNetwork, Power, PowerAction, Target, Throttle,
};
use crate::model::bridge_mac;
use crate::model::spec::{DomainSpec, Marked, NetworkSpec, NicSpec};
use crate::units::{Mac, Mib};

/// The hypervisor of a simulated machine.
#[derive(Clone, Debug)]
pub struct SimHypervisor(pub(super) SimWorld);

fn not_found(what: &str) -> HypervisorError {
    HypervisorError::NotFound {
        what: what.to_owned(),
    }
}

fn not_ours(what: String) -> HypervisorError {
    HypervisorError::NotOurs { what }
}

pub(super) fn our_domain(
    state: &mut State,
    target: Target,
) -> Result<&mut SimDomain, HypervisorError> {
    let domain = state
        .domains
        .get_mut(&target.uuid)
        .ok_or_else(|| not_found("a domain"))?;
    let (mark, _) = domain.bearing();
    if mark.is_none_or(|mark| mark.lab.uuid != target.lab) {
        return Err(not_ours(format!("domain {}", domain.spec.name)));
    }
    Ok(domain)
}

/// A domain that runs.
fn running<'d>(
    domain: &'d mut SimDomain,
    what: &str,
) -> Result<&'d mut SimDomain, HypervisorError> {
    match domain.power {
        Power::Running => Ok(domain),
        power => Err(HypervisorError::Refused {
            what: what.to_owned(),
            why: format!("it is {power:?}"),
        }),
    }
}

fn our_network(state: &mut State, target: Target) -> Result<&mut SimNetwork, HypervisorError> {
    let network = state
        .networks
        .get_mut(&target.uuid)
        .ok_or_else(|| not_found("a network"))?;
    let (mark, _) = network.bearing();
    if mark.is_none_or(|mark| mark.lab.uuid != target.lab) {
        return Err(not_ours(format!("network {}", network.spec.name)));
    }
    Ok(network)
}

#[async_trait]
impl Inventory for SimHypervisor {
    async fn machine(&self) -> Result<Machine, HypervisorError> {
        Ok(Machine {
            uuid: Uuid::from_u128(0x51_u128),
            elsewhere: None,
            hypervisor: super::capture::EMULATOR.into(),
            library: "simulated 1".into(),
            cpus: 2,
            memory: Mib(24 * 1024),
            security_models: Vec::new(),
        })
    }

    async fn networks(&self) -> Result<Vec<ObservedNetwork>, HypervisorError> {
        let state = self.0.lock();
        let observe = |network: &SimNetwork| {
            let (mark, foreign_mark) = network.bearing();
            ObservedNetwork {
                name: network.spec.name.clone(),
                uuid: network.spec.uuid,
                bridge: Some(network.spec.bridge.clone()),
                cidr: network.spec.gateway.map(|_| network.spec.cidr),
                active: network.active,
                mark,
                foreign_mark,
            }
        };
        Ok(state.networks.values().map(observe).collect())
    }

    async fn domains(&self) -> Result<Vec<ObservedDomain>, HypervisorError> {
        let state = self.0.lock();
        let observe = |domain: &SimDomain| {
            let (mark, foreign_mark) = domain.bearing();
            ObservedDomain {
                name: domain.spec.name.clone(),
                uuid: domain.spec.uuid,
                power: domain.power,
                out_of_space: false,
                persistent: true,
                mark,
                foreign_mark,
                disks: domain.disks(),
            }
        };
        Ok(state.domains.values().map(observe).collect())
    }

    async fn files(&self) -> Result<Vec<FilesOf>, HypervisorError> {
        let state = self.0.lock();
        let files = |domain: &SimDomain| FilesOf {
            domain: domain.spec.name.clone(),
            uuid: domain.spec.uuid,
            files: domain.disks(),
        };
        Ok(state.domains.values().map(files).collect())
    }
}

#[async_trait]
impl Networks for SimHypervisor {
    async fn define_network(&self, network: &Marked<NetworkSpec>) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let target = Target {
            uuid: network.spec.uuid,
            lab: network.mark.lab.uuid,
        };
        let active = match our_network(&mut state, target) {
            Ok(known) => known.active,
            Err(HypervisorError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        let defined = SimNetwork {
            spec: network.spec.clone(),
            mark: network.mark.clone(),
            active,
        };
        state.networks.insert(network.spec.uuid, defined);
        Ok(())
    }

    async fn start_network(&self, target: Target) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let network = our_network(&mut state, target)?;
        network.active = true;
        let (bridge, gateway, prefix) = (
            network.spec.bridge.clone(),
            network.spec.gateway,
            network.spec.cidr.prefix(),
        );
        let index = u32::try_from(state.links.len()).unwrap_or(u32::MAX) + 1;
        state.links.entry(bridge.clone()).or_insert(Link {
            index,
            name: bridge,
            alias: None,
            mac: Some(bridge_mac(target.uuid)),
            addresses: gateway
                .into_iter()
                .map(|address| (address, prefix))
                .collect(),
            counters: Counters::default(),
        });
        Ok(())
    }

    async fn remove_network(&self, target: Target) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        match our_network(&mut state, target) {
            Err(HypervisorError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
            Ok(network) => {
                let bridge = network.spec.bridge.clone();
                state.links.remove(&bridge);
            }
        }
        state.networks.remove(&target.uuid);
        Ok(())
    }
}

#[async_trait]
impl Domains for SimHypervisor {
    async fn define_domain(&self, domain: &Marked<DomainSpec>) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let target = Target {
            uuid: domain.spec.uuid,
            lab: domain.mark.lab.uuid,
        };
        match our_domain(&mut state, target) {
            Ok(known) => {
                known.autostart = domain.spec.autostart;
                known.spec = domain.spec.clone();
                known.mark = domain.mark.clone();
            }
            Err(HypervisorError::NotFound { .. }) => {
                let fresh = SimDomain {
                    spec: domain.spec.clone(),
                    mark: domain.mark.clone(),
                    power: Power::ShutOff,
                    autostart: domain.spec.autostart,
                    balloon: None,
                    throttle: Throttle::default(),
                    nics: std::collections::BTreeMap::new(),
                    attached: std::collections::BTreeSet::new(),
                    answers_at: None,
                    boots: 0,
                    guest: super::world::Inside::default(),
                    states: std::collections::BTreeMap::new(),
                };
                state.domains.insert(domain.spec.uuid, fresh);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn power(&self, target: Target, action: PowerAction) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let power = our_domain(&mut state, target)?.power;
        let refused = |why: &str| HypervisorError::Refused {
            what: format!("{action:?}"),
            why: why.to_owned(),
        };
        match (action, power) {
            (PowerAction::Start, Power::ShutOff | Power::Crashed) => state.boot(target.uuid),
            (PowerAction::Start, _)
            | (PowerAction::Shutdown | PowerAction::Destroy | PowerAction::Kill, Power::ShutOff) => {
            }
            (PowerAction::Suspend | PowerAction::Resume | PowerAction::Reset, Power::ShutOff) => {
                return Err(refused("domain is not running"));
            }
            (PowerAction::Reset, _) => state.boot(target.uuid),
            (PowerAction::Shutdown | PowerAction::Destroy, _) => {
                let domain = our_domain(&mut state, target)?;
                domain.power = Power::ShutOff;
                domain.answers_at = None;
                domain.guest.stop();
            }
            (PowerAction::Kill, _) => {
                let domain = our_domain(&mut state, target)?;
                domain.power = Power::Crashed;
                domain.answers_at = None;
                domain.guest.stop();
            }
            (PowerAction::Suspend, _) => our_domain(&mut state, target)?.power = Power::Paused,
            (PowerAction::Resume, _) => our_domain(&mut state, target)?.power = Power::Running,
        }
        Ok(())
    }

    async fn power_state(&self, target: Target) -> Result<Power, HypervisorError> {
        let state = self.0.lock();
        state
            .domains
            .get(&target.uuid)
            .map(|domain| domain.power)
            .ok_or_else(|| not_found("a domain"))
    }

    async fn autostart(&self, target: Target) -> Result<bool, HypervisorError> {
        Ok(our_domain(&mut self.0.lock(), target)?.autostart)
    }

    async fn set_autostart(&self, target: Target, autostart: bool) -> Result<(), HypervisorError> {
        our_domain(&mut self.0.lock(), target)?.autostart = autostart;
        Ok(())
    }

    async fn remove_domain(&self, target: Target) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        match our_domain(&mut state, target) {
            Err(HypervisorError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        state.domains.remove(&target.uuid);
        Ok(())
    }

    async fn console(&self, target: Target) -> Result<PathBuf, HypervisorError> {
        our_domain(&mut self.0.lock(), target)?;
        Err(not_found("a console terminal of a simulated domain"))
    }

    async fn agent(&self, target: Target, _: &str, _: Duration) -> Result<String, HypervisorError> {
        our_domain(&mut self.0.lock(), target)?;
        Ok(r#"{"return":{}}"#.into())
    }
}

#[async_trait]
impl Devices for SimHypervisor {
    async fn balloon(&self, target: Target) -> Result<Mib, HypervisorError> {
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        Ok(domain.balloon.unwrap_or(domain.spec.memory))
    }

    async fn set_balloon(&self, target: Target, memory: Mib) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        running(our_domain(&mut state, target)?, "setting a balloon")?.balloon = Some(memory);
        Ok(())
    }

    async fn throttle(&self, target: Target) -> Result<Throttle, HypervisorError> {
        let mut state = self.0.lock();
        Ok(running(our_domain(&mut state, target)?, "reading a throttle")?.throttle)
    }

    async fn set_throttle(
        &self,
        target: Target,
        throttle: Throttle,
    ) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        running(our_domain(&mut state, target)?, "setting a throttle")?.throttle = throttle;
        Ok(())
    }

    async fn nic(&self, target: Target, mac: Mac) -> Result<NicState, HypervisorError> {
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        if !domain.spec.nics.iter().any(|nic| nic.mac == mac) {
            return Err(not_found("an interface"));
        }
        let up = domain.power == Power::Running || domain.power == Power::Paused;
        let otherwise = if up { NicState::Up } else { NicState::Out };
        Ok(domain.nics.get(&mac).copied().unwrap_or(otherwise))
    }

    async fn set_nic(
        &self,
        target: Target,
        mac: Mac,
        state: NicState,
    ) -> Result<(), HypervisorError> {
        self.nic(target, mac).await?;
        let mut world = self.0.lock();
        let domain = running(our_domain(&mut world, target)?, "changing an interface")?;
        domain.nics.insert(mac, state);
        Ok(())
    }

    async fn attach_nic(&self, target: Target, nic: &NicSpec) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let domain = running(our_domain(&mut state, target)?, "plugging an interface in")?;
        domain.attached.insert(nic.mac);
        Ok(())
    }

    async fn detach_nic(&self, target: Target, mac: Mac) -> Result<(), HypervisorError> {
        let mut state = self.0.lock();
        let domain = our_domain(&mut state, target)?;
        if domain.spec.nics.iter().any(|nic| nic.mac == mac) {
            return Err(HypervisorError::Refused {
                what: "unplugging an interface".into(),
                why: format!("{mac} is one of its own"),
            });
        }
        domain.attached.remove(&mac);
        Ok(())
    }
}
