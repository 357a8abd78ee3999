//! Carrying a plan out: the lab's and the networks' steps in order, then the hosts side by side.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::bases::renew_bases;
use super::find::known_hosts;
use super::layout::{HOST_KEY, KNOWN_HOSTS, clear_host};
use super::leftover::start_network;
use super::outage::{before_start, mend_disk, runs};
use super::{
    Drivers, Event, HostFailure, LabError, Layout, Lock, Prepared, Signs, Watch, Way, readiness,
};
use crate::guest;
use crate::hypervisor::{HypervisorError, PowerAction, Target};
use crate::image::{self, Station};
use crate::journal::Journal;
use crate::model::spec::{DomainSpec, Marked};
use crate::model::{Dhcp, Placed, PlacedHost};
use crate::plan::{Act, Plan, Step, Subject, bridge_mark};
use crate::storage;
use crate::wire::Request;

/// How often a step is tried again when the connection to the hypervisor broke in it.
const RECONNECTS: u32 = 4;

/// How long is waited for the hypervisor to come back.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// One step that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// Its id.
    pub id: String,
    /// What it did.
    pub what: String,
    /// How long it took.
    pub took: Duration,
    /// Whether it changed something, rather than waited.
    pub changed: bool,
}

/// What `up` did.
#[derive(Clone, Debug, Default)]
pub struct Upped {
    /// The steps, as they ended.
    pub steps: Vec<StepReport>,
    /// From the first step until all hosts answered.
    pub ready: Duration,
}

/// What carries steps out.
struct Executor<'e> {
    drivers: &'e Drivers,
    layout: &'e Layout,
    journal: &'e Journal,
    watch: &'e dyn Watch,
    placed: &'e Placed,
    lock: Option<&'e Lock>,
    timeout: Duration,
    jobs: Semaphore,
    done: Mutex<Vec<StepReport>>,
}

/// Carries `prepared`'s plan out, at most `jobs` hosts at once being made, each waited for at most `timeout`.
///
/// Every host is tried, also when others fail. What was done stays: the next `up` goes on from there.
pub async fn apply(
    prepared: &mut Prepared,
    drivers: &Drivers,
    layout: &Layout,
    journal: &Journal,
    watch: &dyn Watch,
    jobs: usize,
    timeout: Duration,
) -> Result<Upped, LabError> {
    let (lab, directory) = (&prepared.placed.record, &prepared.desired.directory);
    if directory.exists() && !layout.is_marked(lab.uuid) {
        layout.make_lab(lab)?;
    }
    let started = drivers.clock.elapsed();
    let lock = prepared.lab_lock.take();
    let executor = Executor {
        drivers,
        layout,
        journal,
        watch,
        placed: &prepared.placed,
        lock: lock.as_ref(),
        timeout,
        jobs: Semaphore::new(jobs.max(1)),
        done: Mutex::default(),
    };
    let plan = std::mem::take(&mut prepared.plan);
    let machine_lock = prepared.machine_lock.take();
    let mut outcome = executor.run(plan, machine_lock).await;
    if outcome.is_ok() {
        let (lab, topology) = (prepared.placed.record.uuid, &prepared.placed.topology);
        outcome = layout.expect_baselines(lab, &topology.baselines);
    }
    let ready = drivers.clock.elapsed().saturating_sub(started);
    let steps = executor
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    prepared.lab_lock = lock;
    outcome?;
    Ok(Upped { steps, ready })
}

impl Executor<'_> {
    async fn run(&self, plan: Plan, machine_lock: Option<Lock>) -> Result<(), LabError> {
        let mut hosts: Vec<(String, Vec<Step>)> = Vec::new();
        for step in plan.steps {
            match &step.subject {
                Subject::Lab | Subject::Network(_) => self.step(&step).await?,
                Subject::Host(name) => {
                    match hosts.iter_mut().find(|(host, _)| *host == name.to_string()) {
                        Some((_, steps)) => steps.push(step),
                        None => hosts.push((name.to_string(), vec![step])),
                    }
                }
            }
        }
        // The networks are up: their addresses and bridges are seen as taken by everybody.
        drop(machine_lock);
        self.discard(&mut hosts).await?;
        let mut pipelines: FuturesUnordered<_> = hosts
            .iter()
            .map(|(host, steps)| self.host(host, steps))
            .collect();
        let mut failures = Vec::new();
        while let Some(outcome) = pipelines.next().await {
            failures.extend(outcome.err());
        }
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by(|a: &HostFailure, b| a.thing.cmp(&b.thing));
        Err(LabError::Hosts { failures })
    }

    /// Discards disks, host after host; then what they lay on may be another file than it was. Before all of them are gone, one
    /// could be started on what it was not made for.
    async fn discard(&self, hosts: &mut [(String, Vec<Step>)]) -> Result<(), LabError> {
        let mut bases = Vec::new();
        for (host, steps) in hosts {
            let Some(last) = steps
                .iter()
                .rposition(|step| matches!(step.act, Act::BlankDisk(_)))
            else {
                continue;
            };
            for step in steps.drain(..=last) {
                let done = self.step(&step).await;
                done.map_err(|error| LabError::Hosts {
                    failures: vec![failure_of(host, &error)],
                })?;
                if let Act::BlankDisk(disk) = &step.act {
                    bases.extend(disk.backing.as_ref().map(|(base, _)| base.clone()));
                }
            }
        }
        renew_bases(self.layout, bases).await
    }

    async fn host(&self, host: &str, steps: &[Step]) -> Result<(), HostFailure> {
        let (making, waiting): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.changes());
        {
            let Ok(_permit) = self.jobs.acquire().await else {
                return Ok(());
            };
            for step in making {
                self.step(step)
                    .await
                    .map_err(|error| failure_of(host, &error))?;
            }
        }
        for step in waiting {
            self.step(step)
                .await
                .map_err(|error| failure_of(host, &error))?;
        }
        Ok(())
    }

    /// Does one step. The lab is still this process's alone.
    async fn step(&self, step: &Step) -> Result<(), LabError> {
        self.lock.map_or(Ok(()), Lock::check)?;
        let what = step.to_string();
        let host = match &step.subject {
            Subject::Host(name) => Some(name.as_str()),
            Subject::Lab | Subject::Network(_) => None,
        };
        // The things' marks say what an `up` that died has made: tests have it die here.
        self.journal.point();
        self.watch.tell(Event::Started {
            id: &step.id,
            host,
            what: &what,
        });
        let started = self.drivers.clock.elapsed();
        let mut outcome = self.act(&step.act).await;
        for _ in 0..RECONNECTS {
            match &outcome {
                Err(LabError::Hypervisor(error)) if error.is_connection() => {
                    self.watch.tell(Event::Note(&format!(
                        "{error}; waiting for it to come back"
                    )));
                    self.reconnected().await?;
                    outcome = self.act(&step.act).await;
                }
                _ => break,
            }
        }
        let took = self.drivers.clock.elapsed().saturating_sub(started);
        self.journal.point();
        outcome?;
        self.watch.tell(Event::Done { id: &step.id, host });
        let report = StepReport {
            id: step.id.clone(),
            what,
            took,
            changed: step.changes(),
        };
        self.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(report);
        Ok(())
    }

    /// Waits until the hypervisor answers again.
    async fn reconnected(&self) -> Result<(), HypervisorError> {
        let until = self.drivers.clock.elapsed() + RECONNECT_DEADLINE;
        loop {
            match self.drivers.hypervisor.inventory.machine().await {
                Ok(_) => return Ok(()),
                Err(error) if self.drivers.clock.elapsed() >= until => return Err(error),
                Err(_) => self.drivers.clock.sleep(RECONNECT_PAUSE).await,
            }
        }
    }

    async fn act(&self, act: &Act) -> Result<(), LabError> {
        let hypervisor = &self.drivers.hypervisor;
        let lab = self.placed.record.uuid;
        match act {
            Act::MakeDirectory(path) if *path == self.layout.lab(lab) => {
                self.layout.make_lab(&self.placed.record)?;
            }
            Act::OpenDirectory(path) if *path == self.layout.lab(lab) => Layout::make_shared(path)?,
            Act::MakeDirectory(path) | Act::OpenDirectory(path) => Layout::make(path)?,
            Act::DefineNetwork(network) => hypervisor.network.define_network(network).await?,
            Act::StartNetwork(network) => {
                let target = Target {
                    uuid: network.spec.uuid,
                    lab,
                };
                start_network(self.drivers, target).await?;
            }
            Act::MarkBridge(bridge) => {
                self.drivers
                    .hostnet
                    .links
                    .set_alias(bridge, &bridge_mark(lab))
                    .await?;
            }
            Act::RemoveDomain(domain) => {
                hypervisor
                    .domain
                    .remove_domain(Target {
                        uuid: domain.spec.uuid,
                        lab,
                    })
                    .await?;
                self.clear_host(&domain.spec)?;
            }
            Act::MakeDisk(disk) => image::create_disk(disk).await?,
            Act::BlankDisk(disk) => image::blank_disk(disk).await?,
            Act::GrowDisk(disk) => {
                // Before its tables are written to.
                if let Some(done) = mend_disk(&disk.path).await? {
                    self.watch.tell(Event::Note(&done));
                }
                image::grow_disk(disk).await?;
            }
            Act::RemoveDisk(path) => {
                storage::remove(path)
                    .map_err(LabError::io(format!("removing {}", path.display())))?;
            }
            Act::MakeSeed { path, first } => self.seed(path, *first).await?,
            Act::DefineDomain(domain) => hypervisor.domain.define_domain(domain).await?,
            Act::StartDomain(domain) => {
                before_start(self.layout, &domain.spec, self.watch).await?;
                hypervisor
                    .domain
                    .power(
                        Target {
                            uuid: domain.spec.uuid,
                            lab,
                        },
                        PowerAction::Start,
                    )
                    .await?;
            }
            Act::Configure(domain) => self.configure(domain).await?,
            Act::Await(domain) => {
                runs(&domain.spec)?;
                self.wait(domain).await?;
            }
        }
        Ok(())
    }

    /// Makes the seed whose path is `path`, with a host key of twin's where the guest reads it at its first boot, or has it
    /// already.
    async fn seed(&self, path: &std::path::Path, first: bool) -> Result<(), LabError> {
        let name = path
            .parent()
            .and_then(|parent| parent.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let Some(host) = self.placed.host(&name) else {
            return Ok(());
        };
        let key = self.layout.ssh_key();
        if let Some(parent) = key.parent() {
            storage::make_directory(parent, 0o700)
                .map_err(LabError::io(format!("making {}", parent.display())))?;
        }
        let public_key = guest::make_key(&key)
            .await
            .map_err(LabError::io("making an SSH key"))?;
        let nics = host.host.nics.iter().filter_map(|nic| {
            let network = self.placed.network(nic.network.as_str())?;
            let gateway = if nic.default_route {
                network.network.gateway
            } else {
                None
            };
            Some((
                nic.mac?,
                nic.address
                    .map(|address| (address, network.network.cidr.prefix())),
                gateway,
            ))
        });
        let station = Station {
            hostname: name,
            instance: host.uuid.to_string(),
            public_key,
            host_key: self.host_key(path, host, first).await?,
            nics: nics.collect(),
        };
        Ok(image::write_seed(&station, path)?)
    }

    /// A guest's host key, private and public, made and pinned where it has none and has not booted yet.
    async fn host_key(
        &self,
        seed: &std::path::Path,
        host: &PlacedHost,
        first: bool,
    ) -> Result<Option<(String, String)>, LabError> {
        let file = seed.with_file_name(HOST_KEY);
        if !first && !file.exists() {
            return Ok(None);
        }
        let made = async {
            let public = guest::make_key(&file).await?;
            let private = std::fs::read_to_string(&file)?;
            // The guest has it from its seed, ssh from this file.
            let addresses: Vec<_> = host
                .host
                .nics
                .iter()
                .filter_map(|nic| nic.address)
                .collect();
            guest::pin(&seed.with_file_name(KNOWN_HOSTS), &addresses, &public)?;
            Ok::<_, std::io::Error>((private, public))
        };
        let keys = made.await.map_err(LabError::io("making a host key"))?;
        Ok(Some(keys))
    }

    /// Removes what twin made in a host's directory, but for its disks.
    fn clear_host(&self, spec: &DomainSpec) -> Result<(), LabError> {
        let Some(directory) = spec.channel.parent() else {
            return Ok(());
        };
        let left = clear_host(directory)
            .map_err(LabError::io(format!("removing {}", directory.display())))?;
        for left in left {
            self.watch.tell(Event::Note(&format!("left {left}")));
        }
        Layout::make(directory)
    }

    async fn configure(&self, domain: &Marked<DomainSpec>) -> Result<(), LabError> {
        let Some(config) = domain
            .spec
            .config
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
        else {
            return Ok(());
        };
        let way = Way::Channel {
            domain: domain.spec.uuid,
            socket: domain.spec.channel.clone(),
        };
        Ok(self
            .drivers
            .guests
            .open(&way)
            .ask(Request::Configure(config))
            .await?)
    }

    /// What can be seen of a host before it answers.
    fn signs(&self, name: &str, asks: bool) -> Signs {
        let Some(host) = self.placed.host(name) else {
            return Signs::default();
        };
        let nics = host.host.nics.iter().filter_map(|nic| {
            let network = self.placed.network(nic.network.as_str())?;
            Some((nic, network))
        });
        let here = nics
            .clone()
            .filter(|(_, network)| network.network.gateway.is_some());
        Signs {
            address: here.clone().find_map(|(nic, _)| nic.address),
            asks_on: nics
                .filter(|(_, network)| asks && network.network.dhcp == Dhcp::Static)
                .find_map(|(nic, network)| Some((network.bridge.clone(), nic.mac?))),
        }
    }

    async fn wait(&self, domain: &Marked<DomainSpec>) -> Result<(), LabError> {
        let name = domain.mark.thing.as_str();
        let way = if domain.spec.config.is_some() {
            Some(Way::Channel {
                domain: domain.spec.uuid,
                socket: domain.spec.channel.clone(),
            })
        } else {
            let address = self
                .placed
                .host(name)
                .and_then(|host| host.host.nics.iter().find_map(|nic| nic.address));
            address.map(|address| Way::Ssh {
                address,
                key: self.layout.ssh_key(),
                known: known_hosts(&domain.spec),
            })
        };
        let Some(way) = way else { return Ok(()) };
        let guest = self.drivers.guests.open(&way);
        let target = Target {
            uuid: domain.spec.uuid,
            lab: self.placed.record.uuid,
        };
        let answered = readiness::answer(
            self.drivers,
            guest.as_ref(),
            target,
            name,
            &domain.spec.serial_log,
            &self.signs(name, domain.spec.config.is_none()),
            self.timeout,
        )
        .await;
        answered.map(drop).map_err(|failure| LabError::Hosts {
            failures: vec![failure],
        })
    }
}

fn failure_of(host: &str, error: &LabError) -> HostFailure {
    if let LabError::Hosts { failures } = error
        && let [failure] = failures.as_slice()
    {
        return failure.clone();
    }
    HostFailure {
        thing: host.to_owned(),
        why: error.to_string(),
        cure: error.cures().join("; "),
    }
}

/// Shares a watch between tasks.
impl<W: Watch + ?Sized> Watch for Arc<W> {
    fn tell(&self, event: Event<'_>) {
        self.as_ref().tell(event);
    }
}
