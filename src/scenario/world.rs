//! The lab, as actions and probes see it.

use std::sync::Arc;

use super::ActionError;
use crate::guest::Guest;
use crate::lab::{Drivers, Found, FoundHost, Layout};
use crate::units::{Mib, Seed};
use crate::wire::{ComputeConfig, GuestState, InstanceConfig};

/// A lab under test.
pub struct World {
    /// Drivers.
    pub drivers: Drivers,
    /// The state directory.
    pub layout: Layout,
    /// The lab.
    pub found: Found,
    /// The run's seed.
    pub seed: Seed,
    /// The run's id, which names what the run makes.
    pub run: String,
}

impl World {
    /// Finds a host.
    pub fn host(&self, name: &str) -> Result<&FoundHost, ActionError> {
        Ok(self.found.host(name)?)
    }

    /// Opens the way into a host.
    pub fn guest(&self, name: &str) -> Result<Arc<dyn Guest>, ActionError> {
        let host = self.host(name)?;
        let way = host.way(&self.layout, &self.found.networks);
        let way =
            way.ok_or_else(|| ActionError::Target(format!("the image of {name} has no way in")))?;
        Ok(self.drivers.guests.open(&way))
    }

    /// Reads a host's state.
    pub async fn state(&self, name: &str) -> Result<GuestState, ActionError> {
        Ok(self.guest(name)?.state().await?)
    }

    /// What a host's nova-compute was told.
    pub fn compute(&self, name: &str) -> Result<ComputeConfig, ActionError> {
        let config = self.host(name)?.config().and_then(|config| config.compute);
        config.ok_or_else(|| ActionError::Target(format!("{name} is not a compute host")))
    }

    /// An instance of `flavor` for a host.
    pub fn instance(&self, name: &str, flavor_mib: u64) -> InstanceConfig {
        let memory_mib = self.found.record.scale.effective(Mib(flavor_mib)).0;
        InstanceConfig {
            name: name.to_owned(),
            flavor_mib,
            memory_mib,
        }
    }

    /// What only the lab knows: `vip.NAME` and `vip.NAME.port`.
    pub fn variable(&self, name: &str) -> Option<String> {
        let wanted = name.strip_prefix("vip.")?;
        let (wanted, port) = wanted
            .strip_suffix(".port")
            .map_or((wanted, false), |wanted| (wanted, true));
        let mut vips = self
            .found
            .hosts
            .iter()
            .filter_map(FoundHost::config)
            .flat_map(|config| config.vips);
        let (_, address, number) = vips.find(|(vip, _, _)| vip == wanted)?;
        Some(if port {
            number.to_string()
        } else {
            address.to_string()
        })
    }
}
