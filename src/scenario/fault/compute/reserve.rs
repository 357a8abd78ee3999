//! `compute-reserve`: sets nova-compute's `reserved_host_memory_mb`.

use crate::scenario::fault::prelude::*;
use crate::units::Mib;
use crate::wire::Request;

/// Sets nova-compute's reserved memory.
///
/// Revert: sets the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ComputeReserve {
    host: Name,
    memory: Mib,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    reserved_mib: u64,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[INSIDE, "compute", "reserved"])
}

async fn reserved(world: &World, host: &str) -> Result<u64, FaultError> {
    world
        .state(host)
        .await?
        .reserved_mib
        .ok_or_else(|| FaultError::Target(format!("{host} is not a compute host")))
}

impl Fault for ComputeReserve {
    const NAME: &'static str = "compute-reserve";
    type Prior = Before;

    fn describe(&self) -> String {
        format!("have nova-compute on {} reserve {}", self.host, self.memory)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let reserved_mib = reserved(world, &self.host).await?;
        Ok(Before {
            host: self.host.to_string(),
            reserved_mib,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        Ok(world
            .guest(&self.host)?
            .ask(Request::ComputeReserve {
                reserved_mib: self.memory.0,
            })
            .await?)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let now = Mib(reserved(world, &self.host).await?);
        Ok(Effectiveness::new(
            now == self.memory,
            format!("{} reserves {now}", self.host),
        ))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "has nova-compute on {} reserve {} again",
            self.host,
            Mib(self.reserved_mib)
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, reserved_mib } = self;
        let reserve = Request::ComputeReserve {
            reserved_mib: *reserved_mib,
        };
        world.guest(host)?.ask(reserve).await?;
        let now = reserved(world, host).await?;
        if now != *reserved_mib {
            let now = Mib(now);
            return Err(FaultError::Target(format!("{host} still reserves {now}")));
        }
        Ok(format!("{host} reserves {} again", Mib(now)))
    }
}
