//! Simulated guests: what twin-guest would say, from plain state.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use super::hostnet::SimNet;
use super::world::{Inside, Sabotage, SimWorld, State};
use crate::clock::Clock;
use crate::guest::{ClockReading, Greeting, Guest, GuestError, Output, Program};
use crate::hostnet::Reach;
use crate::hypervisor::Power;
use crate::wire::{
    GuestState, HostConfig, InstanceConfig, InstanceState, KernelLine, ProcessState, Request,
    ServiceState, VmState,
};

/// From the end of an instance's process until nova-compute records it (shared/facts.md 3).
const STOP_EVENT_DELAY: Duration = Duration::from_secs(15);

/// `sync_power_state_interval`.
const SYNC_INTERVAL: Duration = Duration::from_secs(600);

/// The first process id that is given out.
const FIRST_PID: u32 = 100;

/// A way into a simulated guest.
#[derive(Clone, Debug)]
pub struct SimGuest {
    world: SimWorld,
    domain: Uuid,
}

impl Inside {
    fn process(&mut self, rss_kib: u64, oom_score_adj: i16) -> ProcessState {
        self.next_pid = self.next_pid.max(FIRST_PID) + 1;
        ProcessState {
            pid: self.next_pid,
            rss_kib,
            oom_score_adj,
        }
    }

    /// Boots: services start, instances resume as configured, new ones are made.
    pub(super) fn start(&mut self, config: &HostConfig, boot_id: String) {
        self.state.boot_id = boot_id;
        self.shell.boot(config);
        let services = config.services.iter().map(|service| ServiceState {
            name: service.name.clone(),
            process: Some(self.process(service.memory_mib * 1024, service.oom_score_adj)),
            wanted: true,
            healthy: true,
        });
        let services: Vec<ServiceState> = services.collect();
        self.state.services = services;
        let Some(compute) = &config.compute else {
            return;
        };
        self.state.reserved_mib.get_or_insert(compute.reserved_mib);
        let resume = *self.state.resume.get_or_insert(compute.resume);
        let resumed: Vec<String> = self
            .state
            .instances
            .iter()
            .filter(|instance| resume && instance.vm_state == VmState::Active)
            .map(|instance| instance.name.clone())
            .collect();
        for name in resumed {
            // It is in the list that was just read.
            let _ = self.launch(&name);
        }
        for instance in &compute.instances {
            if !self
                .state
                .instances
                .iter()
                .any(|known| known.name == instance.name)
            {
                let _ = self.boot(instance);
            }
        }
        let sync = SYNC_INTERVAL / config.time_scale.max(1);
        let lost =
            self.state.instances.iter().filter(|instance| {
                instance.vm_state == VmState::Active && instance.process.is_none()
            });
        let at = Instant::now() + sync;
        self.due = lost.map(|instance| (instance.name.clone(), at)).collect();
    }

    /// Kills a process.
    fn kill(&mut self, pid: u32) -> bool {
        let is = |process: &Option<ProcessState>| {
            process.as_ref().is_some_and(|process| process.pid == pid)
        };
        if let Some(service) = self
            .state
            .services
            .iter_mut()
            .find(|service| is(&service.process))
        {
            (service.process, service.healthy) = (None, false);
            return true;
        }
        let instance = self
            .state
            .instances
            .iter_mut()
            .find(|instance| is(&instance.process));
        let Some(instance) = instance else {
            return false;
        };
        instance.process = None;
        self.due
            .insert(instance.name.clone(), Instant::now() + STOP_EVENT_DELAY);
        true
    }

    /// Records the stops that are due.
    fn settle(&mut self) {
        let now = Instant::now();
        for instance in &mut self.state.instances {
            let due = self.due.get(&instance.name).is_some_and(|at| *at <= now);
            if due && instance.process.is_none() {
                instance.vm_state = VmState::Stopped;
            }
        }
        self.due.retain(|_, at| *at > now);
    }

    /// Loses power: processes end, records stay.
    pub(super) fn stop(&mut self) {
        self.due.clear();
        self.state.services.clear();
        for instance in &mut self.state.instances {
            instance.process = None;
            (instance.touching, instance.touched) = (false, false);
        }
    }

    fn boot(&mut self, instance: &InstanceConfig) -> Result<(), String> {
        if self
            .state
            .instances
            .iter()
            .any(|known| known.name == instance.name)
        {
            return Err(format!("there is an instance {} already", instance.name));
        }
        self.state.instances.push(InstanceState {
            name: instance.name.clone(),
            flavor_mib: instance.flavor_mib,
            memory_mib: instance.memory_mib,
            vm_state: VmState::Active,
            process: None,
            last_pid: None,
            touching: false,
            touched: false,
        });
        self.launch(&instance.name)
    }

    fn instance(&mut self, name: &str) -> Result<&mut InstanceState, String> {
        let found = self
            .state
            .instances
            .iter_mut()
            .find(|instance| instance.name == name);
        found.ok_or_else(|| format!("there is no instance {name}"))
    }

    fn launch(&mut self, name: &str) -> Result<(), String> {
        let process = self.process(1024, 0);
        let instance = self.instance(name)?;
        if instance.process.is_none() {
            (instance.touching, instance.touched) = (false, false);
            instance.last_pid = Some(process.pid);
            instance.process = Some(process);
        }
        instance.vm_state = VmState::Active;
        self.due.remove(name);
        Ok(())
    }

    fn ask(
        &mut self,
        request: Request,
        sabotaged: impl Fn(Sabotage) -> bool,
    ) -> Result<(), String> {
        self.settle();
        match request {
            Request::ComputeResume { resume } => self.state.resume = Some(resume),
            Request::ServicesRun { .. } if sabotaged(Sabotage::Services) => {}
            Request::ServicesRun { names } => {
                for index in 0..self.state.services.len() {
                    let process = self.process(1024, 0);
                    let service = &mut self.state.services[index];
                    service.wanted = names.contains(&service.name);
                    service.process = service
                        .wanted
                        .then(|| service.process.clone().unwrap_or(process));
                    service.healthy = service.wanted;
                }
            }
            Request::ComputeReserve { .. } if sabotaged(Sabotage::Reserve) => {}
            Request::ComputeReserve { reserved_mib } => {
                self.state.reserved_mib = Some(reserved_mib);
            }
            Request::InstanceBoot(_) if sabotaged(Sabotage::Boot) => {}
            Request::InstanceBoot(instance) => self.boot(&instance)?,
            Request::InstanceDelete { name } => self
                .state
                .instances
                .retain(|instance| instance.name != name),
            Request::InstanceStart { name } => self.launch(&name)?,
            Request::InstanceStop { name } => {
                let instance = self.instance(&name)?;
                instance.vm_state = VmState::Stopped;
                instance.process = None;
            }
            Request::InstanceTouch { .. } if sabotaged(Sabotage::Touch) => {}
            Request::InstanceTouch { name } => {
                let instance = self.instance(&name)?;
                let memory_kib = instance.memory_mib * 1024;
                let process = instance
                    .process
                    .as_mut()
                    .ok_or_else(|| format!("instance {name} does not run"))?;
                process.rss_kib = memory_kib;
                (instance.touching, instance.touched) = (true, true);
            }
            other => return Err(format!("a simulated guest does not know {other:?}")),
        }
        Ok(())
    }
}

impl SimGuest {
    /// Makes the way into a domain's guest.
    pub(super) const fn new(world: SimWorld, domain: Uuid) -> Self {
        Self { world, domain }
    }

    /// A connection, as if every host could reach every other.
    async fn connect(&self, arguments: &[&str]) -> String {
        let parsed = match arguments {
            [address, port, seconds, ..] => {
                let seconds = seconds.parse().ok().map(Duration::from_secs);
                address.parse().ok().zip(port.parse().ok()).zip(seconds)
            }
            _ => None,
        };
        let Some(((address, port), within)) = parsed else {
            return "unreachable: it was not asked rightly".into();
        };
        let net = SimNet(self.world.clone());
        format!("{}\n", net.connect(address, port, within).await)
    }

    /// Waits until the guest has booted, at most until `until`.
    async fn answering(&self, until: Instant) -> Result<(), GuestError> {
        let (power, answers_at) = {
            let state = self.world.lock();
            let domain = state.domains.get(&self.domain);
            let domain = domain.ok_or_else(|| GuestError::Unreachable {
                why: "there is no such domain".into(),
            })?;
            (domain.power, domain.answers_at)
        };
        let (Power::Running, Some(at)) = (power, answers_at) else {
            return Err(GuestError::Unreachable {
                why: "the domain does not run".into(),
            });
        };
        tokio::time::sleep_until(at.min(until)).await;
        if at <= until {
            return Ok(());
        }
        let what = "waiting for the guest's answer".to_owned();
        Err(GuestError::Deadline {
            what,
            deadline: until.duration_since(Instant::now()),
            last: None,
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> Option<T>) -> Result<T, GuestError> {
        work(&mut self.world.lock()).ok_or_else(|| GuestError::Gone {
            what: "a call".into(),
        })
    }
}

/// A call to a guest that runs takes no longer.
const CALL: Duration = Duration::from_secs(30);

/// What a call takes: others get on meanwhile.
const CALL_TAKES: Duration = Duration::from_millis(20);

#[async_trait]
impl Guest for SimGuest {
    async fn greet(&self, deadline: Duration) -> Result<Greeting, GuestError> {
        self.answering(Instant::now() + deadline).await?;
        self.with(|state| {
            let domain = state.domains.get(&self.domain)?;
            Some(Greeting {
                boot_id: domain.guest.state.boot_id.clone(),
                hostname: domain.mark.thing.to_string(),
                uptime: Duration::ZERO,
                problems: Vec::new(),
            })
        })
    }

    /// Knows `cat` of /proc/vmstat, `kill -KILL`, `uname`, `true`, `false`, `twin-guest connect`, and what [`super::shell`] does.
    async fn run(&self, program: Program) -> Result<i32, GuestError> {
        self.answering(Instant::now() + CALL).await?;
        let words: Vec<&str> = program.argv.iter().map(String::as_str).collect();
        let (code, text) = match words.as_slice() {
            ["cat", "/proc/vmstat"] => {
                let killed = self.with(|state| {
                    Some(state.domains.get(&self.domain)?.guest.state.memory.oom_kill)
                })?;
                (0, format!("oom_kill {killed}\n"))
            }
            ["uname", ..] => (0, "simulated\n".to_owned()),
            ["kill", "-KILL", pid] => {
                let pid = pid.parse().unwrap_or_default();
                let killed =
                    self.with(|state| Some(state.domains.get_mut(&self.domain)?.guest.kill(pid)))?;
                (i32::from(!killed), String::new())
            }
            ["true"] => (0, String::new()),
            ["false"] => (1, String::new()),
            ["ip", "netns", "exec", _, "twin-guest", "connect", rest @ ..]
            | ["twin-guest", "connect", rest @ ..] => (0, self.connect(rest).await),
            _ => {
                let ran = self.with(|state| {
                    let domain = state.domains.get_mut(&self.domain)?;
                    Some(domain.guest.shell.run(&words))
                })?;
                ran.unwrap_or_else(|| Err(format!("a simulated guest cannot run {words:?}")))
                    .map_err(|why| GuestError::Refused { why })?
            }
        };
        // A caller that takes no output has gone.
        let _ = program.output.send(Output::Stdout(text.into_bytes())).await;
        Ok(code)
    }

    async fn state(&self) -> Result<GuestState, GuestError> {
        self.answering(Instant::now() + CALL).await?;
        self.with(|state| {
            let guest = &mut state.domains.get_mut(&self.domain)?.guest;
            guest.settle();
            Some(guest.state.clone())
        })
    }

    async fn ask(&self, request: Request) -> Result<(), GuestError> {
        self.answering(Instant::now() + CALL).await?;
        tokio::time::sleep(CALL_TAKES).await;
        let outcome = self.with(|state| {
            let sabotage = state.sabotage.clone();
            state.asked.push(format!("{request:?}"));
            let domain = state.domains.get_mut(&self.domain)?;
            Some(domain.guest.ask(request, |fault| sabotage.contains(&fault)))
        })?;
        outcome.map_err(|why| GuestError::Refused { why })
    }

    async fn kernel_log(&self, _: u64) -> Result<Vec<KernelLine>, GuestError> {
        self.answering(Instant::now() + CALL).await?;
        Ok(Vec::new())
    }

    async fn clock(&self, here: &dyn Clock) -> Result<ClockReading, GuestError> {
        self.state().await?;
        let now = here.now().as_microsecond();
        Ok(ClockReading::of(now, now, now))
    }

    async fn set_clock(&self, _: &dyn Clock) -> Result<(), GuestError> {
        // Simulated guests have this machine's clock.
        self.state().await.map(drop)
    }
}
