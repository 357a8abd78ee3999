//! `host-autostart`: sets whether libvirt starts a host's domain when this machine boots.

use crate::scenario::arguments::Toggle;
use crate::scenario::fault::prelude::*;

/// Its name in files and in the journal.
pub(crate) const NAME: &str = "host-autostart";

/// Turns libvirt's autostart `on` or `off`.
///
/// Revert: sets the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct HostAutostart {
    host: Name,
    autostart: Toggle,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    autostart: bool,
}

fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).owns(&[SETTINGS, &["autostart"]].concat())
}

async fn read(world: &World, host: &str) -> Result<bool, FaultError> {
    let target = world.target(host)?;
    Ok(world.drivers.hypervisor.domain.autostart(target).await?)
}

async fn set(world: &World, host: &str, autostart: bool) -> Result<(), FaultError> {
    let target = world.target(host)?;
    let hypervisor = &world.drivers.hypervisor;
    Ok(hypervisor.domain.set_autostart(target, autostart).await?)
}

impl Fault for HostAutostart {
    const NAME: &'static str = NAME;
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "turn libvirt's autostart {} for {}",
            Toggle::word(self.autostart.is_on()),
            self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let autostart = read(world, &self.host).await?;
        let host = self.host.to_string();
        Ok(Before { host, autostart })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        set(world, &self.host, self.autostart.is_on()).await
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let now = read(world, &self.host).await?;
        let seen = format!("it is {} for {}", Toggle::word(now), self.host);
        Ok(Effectiveness::new(now == self.autostart.is_on(), seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!(
            "turns libvirt's autostart {} for {}",
            Toggle::word(self.autostart),
            self.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, autostart } = self;
        set(world, host, *autostart).await?;
        if read(world, host).await? != *autostart {
            let word = Toggle::word(!autostart);
            return Err(FaultError::Target(format!("it is still {word} for {host}")));
        }
        Ok(format!(
            "it is {} for {host} again",
            Toggle::word(*autostart)
        ))
    }
}
