//! `memory-balloon`: takes memory away from a host by its balloon, as an overcommitted hypervisor does.

use crate::hypervisor::Power;
use crate::scenario::fault::prelude::*;
use crate::units::Mib;

/// A balloon that is so near is where it was to be: the guest gives and takes whole pages.
const NEAR: Mib = Mib(2);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);

/// A guest takes its memory back within this.
const GIVEN_BACK: Duration = Duration::from_secs(60);

/// Leaves the host so much memory (full-size, scaled with the lab).
///
/// Revert: the memory before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MemoryBalloon {
    host: Name,
    /// What stays with the host, full-size.
    memory: Mib,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    memory_mib: u64,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[MACHINE, "balloon"])
}

/// Sets the balloon and waits until the guest has followed, or the time is over; returns where it stands.
async fn set(world: &World, host: &str, memory: Mib, within: Duration) -> Result<Mib, FaultError> {
    let (hypervisor, clock) = (&world.drivers.hypervisor, &world.drivers.clock);
    let target = world.target(host)?;
    hypervisor.devices.set_balloon(target, memory).await?;
    let until = clock.elapsed() + within;
    loop {
        let now = hypervisor.devices.balloon(target).await?;
        if now.0.abs_diff(memory.0) <= NEAR.0 || clock.elapsed() >= until {
            return Ok(now);
        }
        clock.sleep(LOOK).await;
    }
}

impl MemoryBalloon {
    fn wanted(&self, world: &World) -> Mib {
        world.found.record.scale.effective(self.memory)
    }
}

impl Fault for MemoryBalloon {
    const NAME: &'static str = "memory-balloon";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("leave {} of memory to {}", self.memory, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let target = world.target(&self.host)?;
        let now = world.drivers.hypervisor.devices.balloon(target).await?;
        if self.wanted(world).0 + NEAR.0 >= now.0 {
            return Err(FaultError::Target(format!(
                "{} has {now} only, at this lab's scale",
                self.host
            )));
        }
        Ok(Before {
            host: self.host.to_string(),
            memory_mib: now.0,
        })
    }

    async fn inject(&self, world: &World, _: &Before, within: Duration) -> Result<(), FaultError> {
        let wanted = self.wanted(world);
        set(world, &self.host, wanted, within).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let target = world.target(&self.host)?;
        let now = world.drivers.hypervisor.devices.balloon(target).await?;
        let effective = now.0 <= self.wanted(world).0 + NEAR.0;
        let seen = format!(
            "libvirt says that the balloon leaves {now} to {}",
            self.host
        );
        Ok(Effectiveness::new(effective, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "gives {} its {} of memory back",
            self.host,
            Mib(self.memory_mib)
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, memory_mib } = self;
        let (hypervisor, target) = (&world.drivers.hypervisor, world.target(host)?);
        let anatomy = hypervisor.inspection.anatomy(target).await?;
        if !anatomy.process {
            return Ok(format!(
                "{host} does not run, and has all of its memory when it does"
            ));
        }
        if anatomy.power != Power::Running {
            hypervisor
                .devices
                .set_balloon(target, Mib(*memory_mib))
                .await?;
            return Ok(format!("{host} has its memory back once it goes on"));
        }
        let now = set(world, host, Mib(*memory_mib), GIVEN_BACK).await?;
        if now.0 + NEAR.0 < *memory_mib {
            return Err(FaultError::Target(format!(
                "{host} has {now} of {} back",
                Mib(*memory_mib)
            )));
        }
        Ok(format!("{host} has {now} again"))
    }
}
