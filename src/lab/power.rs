//! Down, power and release.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{Drivers, Event, Found, FoundHost, HostFailure, LabError, Lock, Watch};
use crate::hypervisor::{Power, PowerAction};
use crate::image;

/// How often a host that shuts down is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Between two presses of the power button: a guest that is still booting does not see the first.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

async fn lock(found: &Found, drivers: &Drivers, verb: &str) -> Result<Lock, LabError> {
    let machine = drivers.hypervisor.machine().await?;
    Ok(Lock::lab(
        machine.uuid,
        found.record.uuid,
        found.record.name.as_str(),
        verb,
    )?)
}

/// Shuts all hosts of a lab down, each within `timeout`; with `force` takes their power away.
pub async fn down(
    found: &Found,
    drivers: &Drivers,
    watch: &dyn Watch,
    timeout: Duration,
    force: bool,
) -> Result<(), LabError> {
    let _lock = lock(found, drivers, "down").await?;
    let stop = |host: FoundHost| async move {
        let name = host.name.as_str();
        let target = host.target(found.record.uuid);
        watch.tell(Event::Started {
            id: "down",
            host: Some(name),
            what: "shut down",
        });
        let outcome = if force {
            drivers
                .hypervisor
                .power(target, PowerAction::Destroy)
                .await
                .map_err(|error| (error.to_string(), error.cure()))
        } else {
            shut_down(&host, found, drivers, timeout).await
        };
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
        match drivers.hypervisor.power_state(target).await.map_err(said)? {
            Power::ShutOff | Power::Crashed => return Ok(()),
            Power::Paused => {
                return Err((
                    "it is paused, and cannot shut down".into(),
                    "`twin down --force` takes its power away".into(),
                ));
            }
            Power::Running => {}
        }
        let now = drivers.clock.elapsed();
        if now >= until {
            return Err((
                format!("it has not shut down within {timeout:?}"),
                "`twin down --force` takes its power away".into(),
            ));
        }
        if now >= press {
            drivers
                .hypervisor
                .power(target, PowerAction::Shutdown)
                .await
                .map_err(said)?;
            press = now + PRESS_AGAIN;
        }
        drivers.clock.sleep(LOOK).await;
    }
}

/// Changes one host's power.
pub async fn power(
    found: &Found,
    host: &str,
    actions: &[PowerAction],
    drivers: &Drivers,
) -> Result<Power, LabError> {
    let _lock = lock(found, drivers, "power").await?;
    let target = found.host(host)?.target(found.record.uuid);
    for action in actions {
        drivers.hypervisor.power(target, *action).await?;
    }
    Ok(drivers.hypervisor.power_state(target).await?)
}

/// Wipes hosts to blank and leaves them off, as a MAAS release does (D-018). All of them where none is named.
pub async fn release(
    found: &Found,
    host: Option<&str>,
    drivers: &Drivers,
    watch: &dyn Watch,
) -> Result<Vec<String>, LabError> {
    let _lock = lock(found, drivers, "release").await?;
    let hosts: Vec<&FoundHost> = match host {
        Some(name) => vec![found.host(name)?],
        None => found.hosts.iter().collect(),
    };
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
                .power(host.target(found.record.uuid), PowerAction::Destroy)
                .await?;
            for disk in &host.spec.disks {
                image::create_overlay(disk).await?;
            }
            if let Err(error) = std::fs::remove_file(&host.spec.serial_log)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(LabError::io("removing the serial log")(error));
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
