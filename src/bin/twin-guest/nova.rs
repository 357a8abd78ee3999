//! nova-compute's part: instances as processes, and the records that Nova keeps of them (shared/facts.md 3).
//!
//! ```text
//!             boot                 process dies            15 s                    start
//!   (nothing) ────> ACTIVE+process ───────────> ACTIVE     ────> STOPPED ("SHUTOFF") ────> ACTIVE+process
//!                        │                        │ host reboots: as recorded,
//!                        │ stop                   │ found without a process by the
//!                        └──> STOPPED             └ periodic sync (600 s / time scale) ──> STOPPED
//! ```
//!
//! At host boot, `resume_guests_state_on_host_boot` starts only what the record calls ACTIVE. An instance keeps its
//! allocation in Placement until it is deleted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use twin::wire::{ComputeConfig, InstanceConfig, InstanceState, VmState};

use crate::keep::{Holder, Holding, locked};
use crate::procfs;

/// How long nova waits after the STOPPED event before it calls the stop API (nova: virt/libvirt/host.py).
const STOP_EVENT_DELAY: Duration = Duration::from_secs(15);

/// `sync_power_state_interval` (nova: conf/compute.py).
const SYNC_INTERVAL: Duration = Duration::from_secs(600);

/// How often due stops are looked for.
const TICK: Duration = Duration::from_millis(500);

/// QEMU's process name as the kernel cuts it.
const QEMU_COMM: &str = "qemu-system-x86";

/// Lines of the log that are kept for twin to read.
const LOG_LINES: usize = 50;

/// What is on disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    reserved_mib: Option<u64>,
    #[serde(default)]
    resume: Option<bool>,
    instances: BTreeMap<String, InstanceRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InstanceRecord {
    flavor_mib: u64,
    memory_mib: u64,
    vm_state: VmState,
    last_pid: Option<u32>,
    #[serde(default)]
    ports: Vec<u16>,
}

#[derive(Debug, Default)]
struct State {
    config: Option<ComputeConfig>,
    record: Record,
    running: BTreeMap<String, (Holder, bool)>,
    stopped_at: BTreeMap<String, Instant>,
    log: Vec<String>,
}

/// nova-compute. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Nova {
    state: Arc<Mutex<State>>,
    file: PathBuf,
}

impl Nova {
    /// Reads the records below `directory` and applies `config`: resumes as configured, boots instances that are new.
    pub(crate) fn start(
        directory: &Path,
        config: Option<ComputeConfig>,
        time_scale: u32,
    ) -> (Self, Vec<String>) {
        let file = directory.join("nova.json");
        let record: Record = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let configured = config.as_ref().is_some_and(|config| config.resume);
        let resume = config.is_some() && record.resume.unwrap_or(configured);
        let nova = Self {
            state: Arc::new(Mutex::new(State {
                record,
                ..State::default()
            })),
            file,
        };
        let resumed: Vec<String> = if resume {
            let state = locked(&nova.state);
            state
                .record
                .instances
                .iter()
                .filter(|(_, one)| one.vm_state == VmState::Active)
                .map(|(name, _)| name.clone())
                .collect()
        } else {
            Vec::new()
        };
        let mut problems: Vec<String> = resumed
            .iter()
            .filter_map(|name| nova.launch(name).err())
            .collect();
        problems.extend(nova.configure(config).err());
        nova.spawn_clock(SYNC_INTERVAL / time_scale.max(1));
        (nova, problems)
    }

    /// Takes a new configuration; instances that it names and that do not exist yet are booted.
    pub(crate) fn configure(&self, config: Option<ComputeConfig>) -> Result<(), String> {
        let instances = config
            .as_ref()
            .map(|config| config.instances.clone())
            .unwrap_or_default();
        locked(&self.state).config = config;
        for instance in instances {
            let known = locked(&self.state)
                .record
                .instances
                .contains_key(&instance.name);
            if !known {
                self.boot(&instance)?;
            }
        }
        Ok(())
    }

    /// Follows the two clocks: the delay after a stop event, and the periodic sync.
    fn spawn_clock(&self, sync: Duration) {
        let nova = self.clone();
        std::thread::spawn(move || {
            let mut last_sync = Instant::now();
            loop {
                std::thread::sleep(TICK);
                let synced = last_sync.elapsed() >= sync;
                if synced {
                    last_sync = Instant::now();
                }
                nova.record_stops(synced);
            }
        });
    }

    fn record_stops(&self, synced: bool) {
        let mut state = locked(&self.state);
        let due: Vec<String> = state
            .record
            .instances
            .iter()
            .filter(|(name, one)| {
                one.vm_state == VmState::Active && !state.running.contains_key(*name)
            })
            .filter(|(name, _)| {
                synced
                    || state
                        .stopped_at
                        .get(*name)
                        .is_some_and(|at| at.elapsed() >= STOP_EVENT_DELAY)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in &due {
            state.stopped_at.remove(name);
            if let Some(one) = state.record.instances.get_mut(name) {
                one.vm_state = VmState::Stopped;
            }
            log(
                &mut state,
                &format!("[instance: {name}] Instance shutdown by itself. Calling the stop API."),
            );
        }
        if !due.is_empty() {
            self.store(&mut state);
        }
    }

    /// Creates an instance and starts its process.
    pub(crate) fn boot(&self, instance: &InstanceConfig) -> Result<(), String> {
        {
            let mut state = locked(&self.state);
            configured(&state)?;
            if state.record.instances.contains_key(&instance.name) {
                return Err(format!("there is an instance {} already", instance.name));
            }
            let record = InstanceRecord {
                flavor_mib: instance.flavor_mib,
                memory_mib: instance.memory_mib,
                vm_state: VmState::Active,
                last_pid: None,
                ports: instance.ports.clone(),
            };
            state.record.instances.insert(instance.name.clone(), record);
        }
        self.launch(&instance.name)
    }

    /// Starts an instance that is there; one that runs is left alone.
    pub(crate) fn launch(&self, name: &str) -> Result<(), String> {
        let mut state = locked(&self.state);
        if state.running.contains_key(name) {
            return Ok(());
        }
        let record = state
            .record
            .instances
            .get(name)
            .ok_or_else(|| format!("there is no instance {name}"))?;
        let holding = Holding {
            comm: QEMU_COMM.into(),
            mib: record.memory_mib,
            touch_now: false,
            // As qemu has it under libvirt 9.0 (shared/facts.md 2).
            oom_score_adj: 0,
            ports: record.ports.clone(),
            polls: None,
        };
        let (nova, ended) = (self.clone(), name.to_owned());
        let holder = Holder::start(&holding, move |pid| nova.process_ended(&ended, pid))?;
        if let Err(why) = holder.ready() {
            // No handler sees its end: it is not among the running instances yet.
            holder.kill();
            return Err(format!("instance {name}: {why}"));
        }
        let pid = holder.pid;
        state.running.insert(name.to_owned(), (holder, false));
        state.stopped_at.remove(name);
        if let Some(record) = state.record.instances.get_mut(name) {
            record.vm_state = VmState::Active;
            record.last_pid = Some(pid);
        }
        log(
            &mut state,
            &format!("[instance: {name}] VM Started (Lifecycle Event), process {pid}"),
        );
        self.store(&mut state);
        Ok(())
    }

    fn process_ended(&self, name: &str, pid: u32) {
        let mut state = locked(&self.state);
        if state
            .running
            .get(name)
            .is_some_and(|(holder, _)| holder.pid == pid)
        {
            state.running.remove(name);
            state.stopped_at.insert(name.to_owned(), Instant::now());
            log(
                &mut state,
                &format!("[instance: {name}] VM Stopped (Lifecycle Event), process {pid}"),
            );
        }
    }

    /// Stops an instance as the API does.
    pub(crate) fn stop(&self, name: &str) -> Result<(), String> {
        let holder = {
            let mut state = locked(&self.state);
            let record = state
                .record
                .instances
                .get_mut(name)
                .ok_or_else(|| format!("there is no instance {name}"))?;
            record.vm_state = VmState::Stopped;
            log(
                &mut state,
                &format!("[instance: {name}] stopped through the API"),
            );
            self.store(&mut state);
            state.running.remove(name)
        };
        if let Some((holder, _)) = holder {
            holder.kill();
        }
        Ok(())
    }

    /// Removes an instance; one that is not there is as good as removed.
    pub(crate) fn delete(&self, name: &str) {
        let holder = {
            let mut state = locked(&self.state);
            state.stopped_at.remove(name);
            if state.record.instances.remove(name).is_some() {
                log(&mut state, &format!("[instance: {name}] deleted"));
                self.store(&mut state);
            }
            state.running.remove(name)
        };
        if let Some((holder, _)) = holder {
            holder.kill();
        }
    }

    /// Has an instance's process write to all of its memory.
    pub(crate) fn touch(&self, name: &str) -> Result<(), String> {
        let mut state = locked(&self.state);
        let (holder, touching) = state
            .running
            .get_mut(name)
            .ok_or_else(|| format!("instance {name} does not run"))?;
        *touching = true;
        holder.touch()
    }

    /// Sets `reserved_host_memory_mb`, which lasts over reboots.
    pub(crate) fn reserve(&self, reserved_mib: u64) -> Result<(), String> {
        let mut state = locked(&self.state);
        let configured = configured(&state)?.reserved_mib;
        state.record.reserved_mib = (reserved_mib != configured).then_some(reserved_mib);
        self.store(&mut state);
        Ok(())
    }

    /// Sets `resume_guests_state_on_host_boot`, which lasts over reboots.
    pub(crate) fn resume(&self, resume: bool) -> Result<(), String> {
        let mut state = locked(&self.state);
        let configured = configured(&state)?.resume;
        state.record.resume = (resume != configured).then_some(resume);
        self.store(&mut state);
        Ok(())
    }

    /// Whether instances are resumed when the host boots, where it computes.
    pub(crate) fn resumes(&self) -> Option<bool> {
        let state = locked(&self.state);
        let configured = state.config.as_ref()?.resume;
        Some(state.record.resume.unwrap_or(configured))
    }

    /// The reserved memory in full-size MiB, where the host computes.
    pub(crate) fn reserved_mib(&self) -> Option<u64> {
        let state = locked(&self.state);
        let configured = state.config.as_ref()?.reserved_mib;
        Some(state.record.reserved_mib.unwrap_or(configured))
    }

    /// The instances as recorded, and the log's last lines.
    pub(crate) fn states(&self) -> (Vec<InstanceState>, Vec<String>) {
        let state = locked(&self.state);
        let one = |(name, record): (&String, &InstanceRecord)| {
            let running = state.running.get(name);
            InstanceState {
                name: name.clone(),
                flavor_mib: record.flavor_mib,
                memory_mib: record.memory_mib,
                vm_state: record.vm_state,
                process: running.and_then(|(holder, _)| procfs::process(holder.pid)),
                last_pid: record.last_pid,
                touching: running.is_some_and(|(_, touching)| *touching),
                touched: running.is_some_and(|(holder, _)| holder.said().touched),
            }
        };
        (
            state.record.instances.iter().map(one).collect(),
            state.log.clone(),
        )
    }

    /// Kills every instance's process without recording anything, as the end of the host does.
    pub(crate) fn kill_all(&self) {
        let holders: Vec<_> = std::mem::take(&mut locked(&self.state).running)
            .into_values()
            .collect();
        holders.iter().for_each(|(holder, _)| holder.kill());
    }

    /// Writes the records so that a crash leaves the old ones or the new ones.
    fn store(&self, state: &mut State) {
        let written = (|| {
            let bytes = serde_json::to_vec(&state.record)?;
            let draft = self.file.with_extension("new");
            let mut file = fs::File::create(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &self.file)?;
            // Nova's database does not forget what it has answered to when a host loses its power.
            match self.file.parent() {
                Some(directory) => fs::File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        })();
        if let Err(error) = written {
            log(
                state,
                &format!("cannot write {}: {error}", self.file.display()),
            );
        }
    }
}

/// What this host was told, where it computes. What is set to that again is not set: another configuration holds then.
fn configured(state: &State) -> Result<&ComputeConfig, String> {
    let config = state.config.as_ref();
    config.ok_or_else(|| "this host does not compute".into())
}

fn log(state: &mut State, line: &str) {
    crate::kmsg::say(&format!("nova-compute: {line}"));
    if state.log.len() == LOG_LINES {
        state.log.remove(0);
    }
    state.log.push(format!("{} {line}", procfs::uptime_ms()));
}
