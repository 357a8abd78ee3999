//! Down, power and release.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use uuid::Uuid;

use super::layout::{HOST_KEY, KNOWN_HOSTS};
use super::leftover::start_network;
use super::outage::{before_start, blanked, switched_off};
use super::{Drivers, Event, Found, FoundHost, HostFailure, LabError, Layout, Lock, Watch};
use crate::hypervisor::{Power, PowerAction, Target};
use crate::image;
use crate::model::spec::NetworkSpec;
use crate::plan::{bridge_mark, disk_in_use_blocks, moved_disk_blocks};
use crate::storage;

/// A host that was started answers within this: one with a real cloud on it takes minutes, and at boot all start at once.
pub const BOOT_DEADLINE: Duration = Duration::from_secs(600);

/// How often a host that shuts down is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Between two presses of the power button: a guest that is still booting does not see the first.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// Shuts all hosts of a lab down, each within `timeout`; with `force` takes their power away. Called with the lab's lock.
pub async fn down(
    found: &Found,
    lock: &Lock,
    drivers: &Drivers,
    watch: &dyn Watch,
    timeout: Duration,
    force: bool,
) -> Result<(), LabError> {
    lock.check()?;
    let stop = |host: FoundHost| async move {
        let name = host.name.as_str();
        let target = host.target(found.record.uuid);
        watch.tell(Event::Started {
            id: "down",
            host: Some(name),
            what: "shut down",
        });
        let mut outcome = if force {
            drivers
                .hypervisor
                .domain
                .power(target, PowerAction::Destroy)
                .await
                .map_err(|error| (error.to_string(), error.cure()))
        } else {
            shut_down(&host, found, drivers, timeout).await
        };
        let off = drivers.hypervisor.domain.power_state(target).await;
        if outcome.is_ok() && matches!(off, Ok(Power::ShutOff)) {
            let flushed = switched_off(&host.spec).await;
            outcome = flushed.map_err(|error| (error.to_string(), error.cures().join("; ")));
        }
        watch.tell(Event::Done {
            id: "down",
            host: Some(name),
        });
        outcome.map_err(|(why, cure)| HostFailure {
            thing: name.to_owned(),
            why,
            cure,
        })
    };
    let mut stops: FuturesUnordered<_> = found.hosts.iter().cloned().map(stop).collect();
    let mut failures = Vec::new();
    while let Some(outcome) = stops.next().await {
        failures.extend(outcome.err());
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(LabError::Hosts { failures })
    }
}

async fn shut_down(
    host: &FoundHost,
    found: &Found,
    drivers: &Drivers,
    timeout: Duration,
) -> Result<(), (String, String)> {
    let target = host.target(found.record.uuid);
    let said = |error: crate::hypervisor::HypervisorError| (error.to_string(), error.cure());
    let until = drivers.clock.elapsed() + timeout;
    let mut press = drivers.clock.elapsed();
    loop {
        match drivers
            .hypervisor
            .domain
            .power_state(target)
            .await
            .map_err(said)?
        {
            Power::ShutOff | Power::Crashed => return Ok(()),
            Power::Paused => {
                return Err((
                    "it is paused, and cannot shut down".into(),
                    format!(
                        "`twin power resume {0}` lets it go on, then `twin down` again; or `twin power off {0}` takes its power away",
                        host.name
                    ),
                ));
            }
            Power::Running => {}
        }
        let now = drivers.clock.elapsed();
        if now >= until {
            return Err((
                format!("it has not shut down within {timeout:?}"),
                format!(
                    "`twin power off {}` takes its power away; `twin down --timeout 10m` waits longer",
                    host.name
                ),
            ));
        }
        if now >= press {
            drivers
                .hypervisor
                .domain
                .power(target, PowerAction::Shutdown)
                .await
                .map_err(said)?;
            press = now + PRESS_AGAIN;
        }
        drivers.clock.sleep(LOOK).await;
    }
}

/// Brings a network of the lab up that is down, and marks its bridge.
pub(crate) async fn network_up(
    found: &Found,
    network: &NetworkSpec,
    drivers: &Drivers,
) -> Result<(), LabError> {
    let lab = found.record.uuid;
    let target = Target {
        uuid: network.uuid,
        lab,
    };
    start_network(drivers, target).await?;
    let mark = bridge_mark(lab);
    Ok(drivers
        .hostnet
        .links
        .set_alias(&network.bridge, &mark)
        .await?)
}

/// Changes one host's power. Called with the lab's lock.
pub async fn power(
    found: &Found,
    lock: &Lock,
    host: &str,
    actions: &[PowerAction],
    drivers: &Drivers,
    layout: &Layout,
    watch: &dyn Watch,
) -> Result<Power, LabError> {
    lock.check()?;
    let lab = found.record.uuid;
    let host = found.host(host)?;
    for action in actions {
        switch(host, lab, *action, drivers, layout, watch).await?;
    }
    Ok(drivers
        .hypervisor
        .domain
        .power_state(host.target(lab))
        .await?)
}

/// Does one thing to a host's power, and what belongs to it: disks are looked at before a start, and flushed after the end.
pub(crate) async fn switch(
    host: &FoundHost,
    lab: Uuid,
    action: PowerAction,
    drivers: &Drivers,
    layout: &Layout,
    watch: &dyn Watch,
) -> Result<(), LabError> {
    if action == PowerAction::Start {
        before_start(layout, &host.spec, watch).await?;
    }
    drivers
        .hypervisor
        .domain
        .power(host.target(lab), action)
        .await?;
    if action == PowerAction::Destroy {
        switched_off(&host.spec).await?;
    }
    Ok(())
}

/// Refuses to blank disks that are not the hosts' own any more: another tool has made a snapshot of one, or another domain
/// uses it.
pub async fn releasable(
    found: &Found,
    hosts: &[&FoundHost],
    drivers: &Drivers,
) -> Result<(), LabError> {
    let users = super::users::users(drivers, found).await?;
    let mut blocked = Vec::new();
    for host in hosts {
        if let Some((was, is)) = host.moved_disk(&host.domain.disks) {
            blocked.push(moved_disk_blocks(&host.name, was, is));
        }
        for disk in &host.spec.disks {
            let users = users.of(&disk.path);
            if !users.is_empty() {
                blocked.push(disk_in_use_blocks(&host.name, &disk.path, users));
            }
        }
    }
    if blocked.is_empty() {
        return Ok(());
    }
    Err(LabError::Blocked { blocked })
}

/// Wipes hosts to blank and leaves them off, as a MAAS release does (D-018). All of them where none is named.
/// Called with the lab's lock.
pub async fn release(
    found: &Found,
    lock: &Lock,
    host: Option<&str>,
    drivers: &Drivers,
    watch: &dyn Watch,
) -> Result<Vec<String>, LabError> {
    lock.check()?;
    let hosts = found.chosen(host)?;
    releasable(found, &hosts, drivers).await?;
    let wipe = |host: &FoundHost| {
        let host = host.clone();
        async move {
            let name = host.name.as_str();
            watch.tell(Event::Started {
                id: "release",
                host: Some(name),
                what: "wipe",
            });
            drivers
                .hypervisor
                .domain
                .power(host.target(found.record.uuid), PowerAction::Destroy)
                .await?;
            for disk in &host.spec.disks {
                image::blank_disk(disk).await?;
            }
            blanked(&host.spec)?;
            if let Err(error) = std::fs::remove_file(&host.spec.serial_log)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(LabError::io("removing the serial log")(error));
            }
            // A guest whose host key is not of twin's making makes another one on its blank disk.
            if let Some(directory) = host.spec.serial_log.parent()
                && !directory.join(HOST_KEY).exists()
            {
                storage::remove(&directory.join(KNOWN_HOSTS))
                    .map_err(LabError::io("removing the guest's host key"))?;
            }
            watch.tell(Event::Done {
                id: "release",
                host: Some(name),
            });
            Ok(name.to_owned())
        }
    };
    let mut wipes: FuturesUnordered<_> = hosts.into_iter().map(wipe).collect();
    let mut released = Vec::new();
    while let Some(outcome) = wipes.next().await {
        released.push(outcome?);
    }
    released.sort();
    Ok(released)
}
