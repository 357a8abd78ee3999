//! `disk-throttle`: limits what a host's disks may do a second, in QEMU.

use crate::hypervisor::Throttle;
use crate::scenario::fault::prelude::*;
use crate::units::Mib;

/// QEMU lets the disks do so many MiB and operations a second.
///
/// Revert: the limits before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DiskThrottle {
    host: Name,
    /// What they may do a second, for each second.
    rate: Option<Mib>,
    /// Operations a second.
    operations: Option<u64>,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    throttle: Throttle,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[MACHINE, "throttle"])
}

fn words(throttle: Throttle) -> String {
    let limit = |limit: u64, unit: &str| {
        if limit == 0 {
            format!("any {unit}")
        } else {
            format!("{limit} {unit}")
        }
    };
    format!(
        "{} and {} a second",
        limit(throttle.bytes, "bytes"),
        limit(throttle.operations, "operations")
    )
}

impl DiskThrottle {
    fn throttle(&self) -> Throttle {
        Throttle {
            bytes: self.rate.map_or(0, Mib::bytes),
            operations: self.operations.unwrap_or(0),
        }
    }
}

impl Fault for DiskThrottle {
    const NAME: &'static str = "disk-throttle";
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        if self.throttle() != Throttle::default() {
            return Ok(());
        }
        let why = "it limits a rate, or operations, or both";
        Err(Mistake::of_all("nothing", "throttle", why))
    }

    fn describe(&self) -> String {
        format!("let {}'s disks do {}", self.host, words(self.throttle()))
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let target = world.target(&self.host)?;
        Ok(Before {
            host: self.host.to_string(),
            throttle: world.drivers.hypervisor.devices.throttle(target).await?,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let target = world.target(&self.host)?;
        let hypervisor = &world.drivers.hypervisor;
        Ok(hypervisor
            .devices
            .set_throttle(target, self.throttle())
            .await?)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let target = world.target(&self.host)?;
        let now = world.drivers.hypervisor.devices.throttle(target).await?;
        let seen = format!("QEMU lets {}'s disks do {}", self.host, words(now));
        Ok(Effectiveness::new(now == self.throttle(), seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "lets {}'s disks do {} again",
            self.host,
            words(self.throttle)
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, throttle } = self;
        let hypervisor = &world.drivers.hypervisor;
        let target = world.target(host)?;
        if !hypervisor.inspection.anatomy(target).await?.process {
            return Ok(format!(
                "{host} does not run, and has no limits when it does"
            ));
        }
        hypervisor.devices.set_throttle(target, *throttle).await?;
        let now = hypervisor.devices.throttle(target).await?;
        if now != *throttle {
            return Err(FaultError::Target(format!(
                "{host}'s disks do {}",
                words(now)
            )));
        }
        Ok(format!("{host}'s disks do {} again", words(*throttle)))
    }
}
