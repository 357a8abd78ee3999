//! `instance-touch`: has a host's instances write to all of their memory, one after the other in the seed's order, until
//! the host's kernel kills something or all have.

use crate::scenario::fault::prelude::*;
use crate::units::Random;
use crate::wire::{GuestState, NovaStatus, Request};

/// How often is looked how far one is.
const LOOK: Duration = Duration::from_millis(200);

/// Of its memory, what a touched instance holds at least.
const TOUCHED_PERCENT: u64 = 90;

/// Has instances write to all of their memory, in the seed's order, until the kernel kills something.
///
/// Revert: starts them anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InstanceTouch {
    host: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    /// Instances that ran, and whether all of their memory was written to.
    running: Vec<(String, bool)>,
    oom_kill: u64,
    rss_kib: u64,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).sets(&[INSIDE, "touched"])
}

fn rss_kib(state: &GuestState) -> u64 {
    state
        .instances
        .iter()
        .filter_map(|instance| instance.process.as_ref())
        .map(|process| process.rss_kib)
        .sum()
}

impl Fault for InstanceTouch {
    const NAME: &'static str = "instance-touch";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "have the instances on {} write to all of their memory, until its kernel kills something",
            self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let state = world.state(&self.host).await?;
        let active = state.instances.iter().filter(|instance| {
            instance.status() == NovaStatus::Active && instance.process.is_some()
        });
        let running = active
            .map(|instance| (instance.name.clone(), instance.touched))
            .collect();
        let captured = Before {
            host: self.host.to_string(),
            running,
            oom_kill: state.memory.oom_kill,
            rss_kib: rss_kib(&state),
        };
        Ok(captured)
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        within: Duration,
    ) -> Result<(), FaultError> {
        let guest = world.guest(&self.host)?;
        let clock = &world.drivers.clock;
        let until = clock.elapsed() + within;
        let mut names: Vec<&String> = captured.running.iter().map(|(name, _)| name).collect();
        Random::new(world.seed).shuffle(&mut names);
        for name in names {
            guest
                .ask(Request::InstanceTouch { name: name.clone() })
                .await?;
            loop {
                let state = guest.state().await?;
                if state.memory.oom_kill > captured.oom_kill {
                    return Ok(());
                }
                let instance = state
                    .instances
                    .iter()
                    .find(|instance| instance.name == *name);
                if instance.is_none_or(|instance| instance.touched || instance.process.is_none()) {
                    break;
                }
                if clock.elapsed() >= until {
                    return Err(FaultError::Deadline {
                        last: format!(
                            "{name} holds {} KiB",
                            instance
                                .and_then(|instance| instance.process.as_ref())
                                .map_or(0, |process| process.rss_kib)
                        ),
                    });
                }
                clock.sleep(LOOK).await;
            }
        }
        Ok(())
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let state = world.state(&self.host).await?;
        let killed = state.memory.oom_kill - captured.oom_kill.min(state.memory.oom_kill);
        let full = state.instances.iter().filter(|instance| {
            instance.process.as_ref().is_some_and(|process| {
                process.rss_kib * 100 >= instance.memory_mib * 1024 * TOUCHED_PERCENT
            })
        });
        let full = full.count();
        let now = rss_kib(&state);
        let seen = format!(
            "{full} of {} instances hold {TOUCHED_PERCENT} % of their memory, {} MiB in all (were {} MiB); {killed} killed by the kernel",
            captured.running.len(),
            now / 1024,
            captured.rss_kib / 1024
        );
        // Some are full and, unless the kernel stopped it, all are.
        let effective = full > 0 && (killed > 0 || full == captured.running.len());
        Ok(Effectiveness::new(effective, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("starts the instances on {} anew that ran", self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let guest = world.guest(&self.host)?;
        let state = guest.state().await?;
        let mut restarted = 0;
        for (name, touched) in &self.running {
            let Some(instance) = state
                .instances
                .iter()
                .find(|instance| instance.name == *name)
            else {
                continue;
            };
            let as_before = instance.process.is_some()
                && instance.status() == NovaStatus::Active
                && (*touched || !instance.touching);
            if !as_before {
                // A fresh process holds no memory, as the one before the touch did.
                guest
                    .ask(Request::InstanceStop { name: name.clone() })
                    .await?;
                guest
                    .ask(Request::InstanceStart { name: name.clone() })
                    .await?;
                restarted += 1;
            }
        }
        let now = guest.state().await?;
        let stopped = now.instances.iter().filter(|instance| {
            let ran = self.running.iter().any(|(name, _)| *name == instance.name);
            ran && instance.process.is_none()
        });
        let stopped: Vec<&str> = stopped.map(|instance| instance.name.as_str()).collect();
        if !stopped.is_empty() {
            let (host, stopped) = (&self.host, stopped.join(", "));
            return Err(FaultError::Target(format!(
                "without a process on {host}: {stopped}"
            )));
        }
        Ok(format!(
            "{restarted} instances on {} started anew",
            self.host
        ))
    }
}
