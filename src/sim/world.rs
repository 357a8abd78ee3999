//! The state behind all simulated drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use super::capture::Saved;
use super::shell::Shell;
use super::{SimGuest, SimHypervisor, SimNet};
use crate::clock::{BootTime, Clock};
use crate::guest::Guest;
use crate::hostnet::{Bandwidth, Cut, HostNet, Link};
use crate::hypervisor::{Hypervisor, NicState, Power, Throttle};
use crate::lab::{Drivers, GuestWays, NoWatchdog, Way};
use crate::model::spec::{DomainSpec, NetworkSpec};
use crate::model::{Bearing, Mark};
use crate::units::{Mac, Mib, Random, Seed};
use crate::wire::{GuestState, HostConfig};

/// Between this and twice as long a simulated guest takes to boot.
const BOOT: Duration = Duration::from_secs(2);

/// A fault that a test puts in: the call is taken and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Touching an instance's memory.
    Touch,
    /// Booting an instance.
    Boot,
    /// Reserving memory.
    Reserve,
    /// Choosing services.
    Services,
    /// Capturing a domain; it never ends.
    Capture,
}

/// A network.
#[derive(Clone, Debug)]
pub(super) struct SimNetwork {
    pub(super) spec: NetworkSpec,
    pub(super) mark: Mark,
    pub(super) active: bool,
}

/// A domain with its guest.
#[derive(Clone, Debug)]
pub(super) struct SimDomain {
    pub(super) spec: DomainSpec,
    pub(super) mark: Mark,
    pub(super) power: Power,
    pub(super) autostart: bool,
    pub(super) balloon: Option<Mib>,
    pub(super) throttle: Throttle,
    /// Interfaces that are not as they were plugged in.
    pub(super) nics: BTreeMap<Mac, NicState>,
    /// Interfaces that it is not defined with.
    pub(super) attached: BTreeSet<Mac>,
    pub(super) answers_at: Option<Instant>,
    pub(super) boots: u32,
    pub(super) guest: Inside,
    pub(super) states: BTreeMap<String, Saved>,
}

/// What is inside a guest, kept over reboots as far as a disk would.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside {
    pub(super) state: GuestState,
    pub(super) next_pid: u32,
    /// When nova-compute records that an instance without a process has stopped.
    pub(super) due: BTreeMap<String, Instant>,
    pub(super) shell: Shell,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: Random,
    pub(super) networks: BTreeMap<Uuid, SimNetwork>,
    pub(super) domains: BTreeMap<Uuid, SimDomain>,
    pub(super) links: BTreeMap<String, Link>,
    pub(super) tables: Vec<(String, String)>,
    pub(super) cuts: BTreeMap<(String, String), Cut>,
    /// What guests have been asked to change.
    pub(super) asked: Vec<String>,
    /// What links let through that are not as they were made.
    pub(super) bandwidths: BTreeMap<String, Bandwidth>,
    pub(super) sabotage: Vec<Sabotage>,
}

/// A simulated machine. Cloning shares it.
#[derive(Clone, Debug)]
pub struct SimWorld {
    state: Arc<Mutex<State>>,
    started: Instant,
}

impl SimWorld {
    /// Makes an empty machine.
    pub fn new(seed: Seed) -> Self {
        let state = State {
            random: Random::new(seed),
            networks: BTreeMap::new(),
            domains: BTreeMap::new(),
            links: BTreeMap::new(),
            tables: Vec::new(),
            cuts: BTreeMap::new(),
            asked: Vec::new(),
            bandwidths: BTreeMap::new(),
            sabotage: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            started: Instant::now(),
        }
    }

    /// Puts a fault in.
    pub fn sabotage(&self, fault: Sabotage) {
        self.lock().sabotage.push(fault);
    }

    /// Another program turns nova-compute's `resume_guests_state_on_host_boot` round, on all hosts.
    pub fn interfere(&self) {
        for domain in self.lock().domains.values_mut() {
            let resume = &mut domain.guest.state.resume;
            *resume = resume.map(|resume| !resume);
        }
    }

    /// What guests have been asked to change so far, in order.
    pub fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    /// What has to be as before after an undo, beyond what the drivers tell: files, networks and interfaces of the guests, and
    /// what keeps them apart.
    pub fn picture(&self) -> Vec<String> {
        let state = self.lock();
        let guest = |domain: &SimDomain| {
            let shell = domain.guest.shell.picture();
            // One that was never touched is up.
            let nics = domain
                .nics
                .iter()
                .filter(|(_, state)| **state != NicState::Up);
            let nics: Vec<_> = nics.collect();
            format!(
                "{} {nics:?} {:?} {shell}",
                domain.spec.name, domain.attached
            )
        };
        let guests = state.domains.values().map(guest);
        let net = format!("{:?} {:?} {:?}", state.tables, state.cuts, state.bandwidths);
        guests.chain([net]).collect()
    }

    /// Returns drivers over this machine.
    pub fn drivers(&self) -> Drivers {
        Drivers {
            hypervisor: Hypervisor::of(SimHypervisor(self.clone())),
            hostnet: HostNet::of(SimNet(self.clone())),
            guests: Arc::new(SimWays(self.clone())),
            clock: Arc::new(SimClock {
                started: self.started,
            }),
            guardian: Arc::new(NoWatchdog),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimNetwork {
    /// Its own mark, or another's.
    pub(super) fn bearing(&self) -> (Option<Mark>, Option<Mark>) {
        let mark = self.mark.clone();
        let bearing = mark.borne_by::<NetworkSpec>(self.spec.uuid, &self.spec.name);
        Bearing::split(Some(bearing))
    }
}

impl SimDomain {
    /// Its own mark, or another's.
    pub(super) fn bearing(&self) -> (Option<Mark>, Option<Mark>) {
        let mark = self.mark.clone();
        let bearing = mark.borne_by::<DomainSpec>(self.spec.uuid, &self.spec.name);
        Bearing::split(Some(bearing))
    }

    /// The files of its disks.
    pub(super) fn disks(&self) -> Vec<PathBuf> {
        let disks = self.spec.disks.iter();
        disks.map(|disk| disk.path.clone()).collect()
    }

    /// Whether something answers on a port at one of this domain's addresses; nothing where that is not here, or no running
    /// guest can refuse it.
    pub(super) fn answers_at(&self, address: Ipv4Addr, port: u16) -> Option<bool> {
        let config: HostConfig = serde_json::from_str(self.spec.config.as_deref()?).ok()?;
        let mut addresses = config.nics.iter().flat_map(|nic| &nic.addresses);
        addresses.find(|(own, _)| *own == address)?;
        let up =
            self.power == Power::Running && self.answers_at.is_some_and(|at| at <= Instant::now());
        if !up {
            return None;
        }
        let state = &self.guest.state;
        let service = config.services.iter().any(|service| {
            let runs = |one: &crate::wire::ServiceState| one.name == service.name && one.healthy;
            service.ports.contains(&port) && state.services.iter().any(runs)
        });
        let instances = config.compute.iter().flat_map(|compute| &compute.instances);
        let instance = instances
            .filter(|one| one.ports.contains(&port))
            .any(|one| {
                let mut known = state.instances.iter();
                known.any(|known| known.name == one.name && known.process.is_some())
            });
        Some(service || instance)
    }
}

impl State {
    /// Whether a running domain has that address, and answers there.
    pub(super) fn answers_at(&self, address: Ipv4Addr, port: u16) -> Option<bool> {
        let mut domains = self.domains.values();
        domains.find_map(|domain| domain.answers_at(address, port))
    }

    /// What a service says of what it polls.
    pub(super) fn polled_by(&self, address: Ipv4Addr, port: u16) -> String {
        let services = self.domains.values().filter_map(|domain| {
            domain.answers_at(address, port)?;
            let config: HostConfig = serde_json::from_str(domain.spec.config.as_deref()?).ok()?;
            Some(config.services)
        });
        let mut services = services.flatten();
        let polled = services.find_map(|one| one.polls.filter(|_| one.ports.contains(&port)));
        polled.map_or_else(String::new, |polled| {
            let stale = self.answers_at(*polled.ip(), polled.port()) != Some(true);
            format!("{{\"polls\":\"{polled}\",\"stale\":{stale}}}")
        })
    }

    /// Starts a domain's guest.
    pub(super) fn boot(&mut self, uuid: Uuid) {
        let more = Duration::from_millis(self.random.below(2000));
        let Some(domain) = self.domains.get_mut(&uuid) else {
            return;
        };
        domain.power = Power::Running;
        domain.answers_at = Some(Instant::now() + BOOT + more);
        domain.boots += 1;
        domain.nics.clear();
        domain.attached.clear();
        let config: HostConfig = domain
            .spec
            .config
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let boot_id = Uuid::new_v5(&uuid, domain.boots.to_string().as_bytes());
        domain.guest.start(&config, boot_id.to_string());
    }
}

struct SimWays(SimWorld);

impl GuestWays for SimWays {
    fn open(&self, way: &Way) -> Arc<dyn Guest> {
        let domain = match way {
            Way::Channel { domain, .. } => *domain,
            Way::Ssh { .. } => Uuid::nil(),
        };
        Arc::new(SimGuest::new(self.0.clone(), domain))
    }
}

/// Virtual time, from 2026-01-01.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    started: Instant,
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::constant(1_767_225_600, 0);
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or_default();
        start.checked_add(elapsed).unwrap_or(start)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn boot(&self) -> BootTime {
        BootTime {
            boot: "simulated".into(),
            since: self.elapsed(),
        }
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
