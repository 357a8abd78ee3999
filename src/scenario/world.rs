//! The lab, as actions and probes see it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::FaultError;
use super::variables::Variables;
use crate::guest::Guest;
use crate::hypervisor::{Power, Target};
use crate::lab::{Drivers, Found, FoundHost, LabError, Layout, Lock};
use crate::model::Mark;
use crate::model::spec::{NetworkSpec, NicLink};
use crate::units::{Mac, Mib, Seed};
use crate::wire::{ComputeConfig, GuestState, HostConfig, InstanceConfig, NicConfig};

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
    /// The lab's lock; a run holds it, a dry run and a watchdog do not.
    pub lock: Option<Lock>,
}

impl World {
    /// Milliseconds since `started`, a reading of the clock.
    pub(super) fn since(&self, started: Duration) -> u64 {
        let elapsed = self.drivers.clock.elapsed().saturating_sub(started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// That the lab is still this process's alone.
    pub(super) fn held(&self) -> Result<(), LabError> {
        Ok(self.lock.as_ref().map_or(Ok(()), Lock::check)?)
    }

    /// Finds a host.
    pub fn host(&self, name: &str) -> Result<&FoundHost, FaultError> {
        Ok(self.found.host(name)?)
    }

    /// A host's domain, for the hypervisor.
    pub fn target(&self, name: &str) -> Result<Target, FaultError> {
        Ok(self.host(name)?.target(self.found.record.uuid))
    }

    /// The gates that the topology has for a baseline.
    pub fn gates(&self, baseline: &str) -> Result<Vec<String>, FaultError> {
        let expected = self.layout.expected_baselines(self.found.record.uuid);
        let known: Vec<String> = expected.iter().map(|one| one.name.to_string()).collect();
        let found = expected
            .into_iter()
            .find(|one| one.name.as_str() == baseline);
        found.map(|found| found.gates).ok_or_else(|| {
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            FaultError::Target(format!(
                "the topology has no baseline {baseline}; it has: {known}"
            ))
        })
    }

    /// Opens the way into a host.
    pub fn guest(&self, name: &str) -> Result<Arc<dyn Guest>, FaultError> {
        let host = self.host(name)?;
        let way = host.way(&self.layout, &self.found.networks);
        let way =
            way.ok_or_else(|| FaultError::Target(format!("the image of {name} has no way in")))?;
        Ok(self.drivers.guests.open(&way))
    }

    /// Reads a host's state; fails at once where it does not run.
    pub async fn state(&self, name: &str) -> Result<GuestState, FaultError> {
        let target = self.target(name)?;
        let power = self.drivers.hypervisor.domain.power_state(target).await?;
        if power != Power::Running {
            return Err(FaultError::Target(format!("{name} is {power:?}")));
        }
        Ok(self.guest(name)?.state().await?)
    }

    /// What a host's nova-compute was told.
    pub fn compute(&self, name: &str) -> Result<ComputeConfig, FaultError> {
        let config = self.host(name)?.config().and_then(|config| config.compute);
        config.ok_or_else(|| FaultError::Target(format!("{name} is not a compute host")))
    }

    /// An instance of `flavor` for a host.
    pub fn instance(&self, name: &str, flavor_mib: u64) -> InstanceConfig {
        let memory_mib = self.found.record.scale.effective(Mib(flavor_mib)).0;
        InstanceConfig {
            name: name.to_owned(),
            flavor_mib,
            memory_mib,
            ports: Vec::new(),
        }
    }

    /// What only the lab knows: `vip.NAME`, `vip.NAME.port`, `address.HOST.NETWORK`, `nic.HOST.NETWORK`, `gateway.NETWORK`,
    /// `subnet.NETWORK`, and `free.NETWORK`, an address that is free.
    pub fn variable(&self, name: &str) -> Option<String> {
        match name.split('.').collect::<Vec<_>>().as_slice() {
            ["vip", name] => Some(self.vip(name)?.0.to_string()),
            ["vip", name, "port"] => Some(self.vip(name)?.1.to_string()),
            ["address", host, network] => {
                let nic = self.nic(host, network)?;
                Some(nic.addresses.first()?.0.to_string())
            }
            ["nic", host, network] => Some(self.nic(host, network)?.name),
            ["gateway", network] => Some(self.network(network)?.gateway?.to_string()),
            ["free", network] => Some(self.free(network)?.to_string()),
            ["subnet", network] => Some(self.network(network)?.cidr.to_string()),
            _ => None,
        }
    }

    fn vips(&self) -> impl Iterator<Item = (String, Ipv4Addr, u16)> {
        let configs = self.found.hosts.iter().filter_map(FoundHost::config);
        configs.flat_map(|config| config.vips)
    }

    /// Finds a VIP of any host: address and port.
    fn vip(&self, name: &str) -> Option<(Ipv4Addr, u16)> {
        let (_, address, port) = self.vips().find(|(vip, _, _)| vip == name)?;
        Some((address, port))
    }

    /// Whether an address is one of a network, and neither this machine's nor a host's nor a VIP.
    pub fn is_free(&self, network: &str, address: Ipv4Addr) -> bool {
        let mut configs = self.found.hosts.iter().filter_map(FoundHost::config);
        let has = |config: HostConfig| {
            let mut own = config.nics.iter().flat_map(|nic| &nic.addresses);
            own.any(|(own, _)| *own == address)
        };
        let network = self.network(network);
        network.is_some_and(|network| {
            network.cidr.is_host(address) && network.gateway != Some(address)
        }) && !configs.any(has)
    }

    /// The last free address of a network.
    fn free(&self, network: &str) -> Option<Ipv4Addr> {
        let cidr = self.network(network)?.cidr;
        let (first, last) = (u32::from(cidr.base()), u32::from(cidr.broadcast()));
        let mut addresses = (first..last).rev().map(Ipv4Addr::from);
        addresses.find(|address| self.is_free(network, *address))
    }

    /// Finds a network by its name in the topology.
    pub fn network(&self, name: &str) -> Option<&NetworkSpec> {
        let mut networks = self.found.networks.iter();
        let is = |mark: &Mark| mark.thing.as_str() == name;
        let (_, spec) = networks.find(|(network, _)| network.mark.as_ref().is_some_and(is))?;
        Some(spec)
    }

    /// The bridge of a network.
    pub fn bridge(&self, network: &str) -> Result<&str, FaultError> {
        let found = self.network(network).map(|network| network.bridge.as_str());
        found.ok_or_else(|| FaultError::Target(format!("there is no network {network}")))
    }

    /// The Ethernet address of a host's interface on a network.
    pub fn mac(&self, host: &str, network: &str) -> Result<Mac, FaultError> {
        let none = || FaultError::Target(format!("{host} has no interface on {network}"));
        let wanted = NicLink::Network(self.network(network).ok_or_else(none)?.name.clone());
        let mut nics = self.host(host)?.spec.nics.iter();
        let found = nics.find(|nic| nic.link == wanted);
        found.map(|nic| nic.mac).ok_or_else(none)
    }

    /// This machine's end of a running host's interface on a network.
    pub async fn tap(&self, host: &str, network: &str) -> Result<String, FaultError> {
        let mac = self.mac(host, network)?;
        let anatomy = self
            .drivers
            .hypervisor
            .inspection
            .anatomy(self.target(host)?)
            .await?;
        let tap = anatomy.taps.into_iter().find(|(of, _)| *of == mac);
        tap.map(|(_, tap)| tap).ok_or_else(|| {
            FaultError::Target(format!(
                "the interface of {host} on {network} is not plugged in"
            ))
        })
    }

    /// Finds a host's interface on a network, as its guest knows it.
    pub(super) fn nic(&self, host: &str, network: &str) -> Option<NicConfig> {
        let wanted = NicLink::Network(self.network(network)?.name.clone());
        let host = self.found.host(host).ok()?;
        let mac = host.spec.nics.iter().find(|nic| nic.link == wanted)?.mac;
        host.config()?.nics.into_iter().find(|nic| nic.mac == mac)
    }
}

impl Variables for World {
    fn value(&self, name: &str) -> Option<String> {
        self.variable(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (vip, _, _) in self.vips() {
            names.extend([format!("vip.{vip}"), format!("vip.{vip}.port")]);
        }
        let networks = self.found.networks.iter();
        let networks = networks.filter_map(|(network, _)| network.mark.as_ref());
        for network in networks.map(|mark| mark.thing.as_str()) {
            let kinds = ["gateway", "subnet", "free"];
            names.extend(kinds.map(|kind| format!("{kind}.{network}")));
            for host in &self.found.hosts {
                let host = &host.name;
                let kinds = ["address", "nic"];
                names.extend(kinds.map(|kind| format!("{kind}.{host}.{network}")));
            }
        }
        names.retain(|name| self.variable(name).is_some());
        names
    }
}
