//! What a lab is at.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::join_all;

use super::outage::cut_short;
use super::{Drivers, Found, FoundHost, LabError, Layout, Space, Stray};
use crate::hypervisor::Power;
use crate::model::{LabRecord, NetworkMode};
use crate::units::Cidr;
use crate::wire::{GuestState, ServiceState};

/// A guest that does not answer within this counts as silent.
const ANSWER: Duration = Duration::from_millis(1500);

/// A login over SSH takes seconds under emulation.
const LOGIN: Duration = Duration::from_secs(6);

/// A lab's state.
#[derive(Clone, Debug)]
pub struct LabStatus {
    /// What was decided when it was made.
    pub record: LabRecord,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
    /// Its networks.
    pub networks: Vec<NetworkStatus>,
    /// Things that carry a mark of the lab which is not their own.
    pub strays: Vec<Stray>,
    /// Space on the file system that it is on.
    pub space: Space,
}

/// A host's state.
#[derive(Clone, Debug)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its domain's name.
    pub domain: String,
    /// Its domain's UUID.
    pub uuid: uuid::Uuid,
    /// Whether it runs.
    pub power: Power,
    /// Whether it is off, and was not switched off before this machine ended.
    pub cut_short: bool,
    /// Whether it answered; nothing where its image has no way in, or it does not run.
    pub answers: Option<bool>,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Its guest's state, where twin-guest answered.
    pub guest: Option<GuestState>,
}

impl HostStatus {
    /// Its services, where twin-guest answered.
    pub fn services(&self) -> &[ServiceState] {
        self.guest.as_ref().map_or(&[], |guest| &guest.services)
    }
}

/// A network's state.
#[derive(Clone, Debug)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Its addresses.
    pub cidr: Cidr,
    /// How packets leave.
    pub mode: NetworkMode,
    /// Whether it is up.
    pub active: bool,
}

/// Reads a lab's state; guests are asked side by side.
pub async fn status(
    found: &Found,
    drivers: &Drivers,
    layout: &Layout,
) -> Result<LabStatus, LabError> {
    let hosts = join_all(
        found
            .hosts
            .iter()
            .map(|host| host_status(host, found, drivers, layout)),
    )
    .await;
    let networks = found.networks.iter().map(|(network, spec)| NetworkStatus {
        name: network
            .mark
            .as_ref()
            .map_or_else(|| network.name.clone(), |mark| mark.thing.to_string()),
        bridge: spec.bridge.clone(),
        cidr: spec.cidr,
        mode: spec.mode,
        active: network.active,
    });
    Ok(LabStatus {
        record: found.record.clone(),
        hosts,
        networks: networks.collect(),
        strays: found.strays.clone(),
        space: Space::of(layout),
    })
}

async fn host_status(
    host: &FoundHost,
    found: &Found,
    drivers: &Drivers,
    layout: &Layout,
) -> HostStatus {
    let way = host
        .way(layout, &found.networks)
        .filter(|_| host.domain.power == Power::Running);
    let (mut answers, mut guest) = (None, None);
    if let Some(way) = way {
        let opened = drivers.guests.open(&way);
        if matches!(way, super::Way::Channel { .. }) {
            let asked = drivers.clock.timeout(ANSWER, opened.state()).await;
            guest = asked.and_then(Result::ok);
            answers = Some(guest.is_some());
        } else {
            let greeted = drivers.clock.timeout(LOGIN, opened.greet(LOGIN)).await;
            answers = Some(greeted.is_some_and(|greeted| greeted.is_ok()));
        }
    }
    let configured = host.config().map(|config| {
        config
            .nics
            .iter()
            .flat_map(|nic| nic.addresses.iter().map(|(address, _)| *address))
            .collect::<Vec<_>>()
    });
    let leased = || {
        let leases = found.networks.iter().flat_map(|(_, spec)| &spec.leases);
        leases
            .filter(|lease| host.spec.nics.iter().any(|nic| nic.mac == lease.mac))
            .map(|lease| lease.address)
            .collect()
    };
    HostStatus {
        name: host.name.to_string(),
        domain: host.domain.name.clone(),
        uuid: host.domain.uuid,
        power: host.domain.power,
        cut_short: host.domain.power == Power::ShutOff && cut_short(&host.spec),
        answers,
        addresses: configured.unwrap_or_else(leased),
        guest,
    }
}
