//! When this machine boots: reverting what is open, and starting the hosts that were kept from it.

use std::time::Duration;

use super::{Recovery, ServiceError, Site, recover};
use crate::hypervisor::libvirt::{autostarted, running};
use crate::hypervisor::{Power, PowerAction};
use crate::lab::{self, BOOT_DEADLINE, Found, LabError, Lock, Watch};
use crate::scenario::{self, Recovered};
use crate::snapshot::Finished;

/// How long libvirt may take to answer at boot, and between two tries.
const LIBVIRT_DEADLINE: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_secs(5);

/// Before libvirtd runs: reverts what needs no libvirt, and keeps hosts with open faults from being started.
pub fn before_libvirt(site: &Site) -> Result<Finished, ServiceError> {
    if let Some(process) = running() {
        return Err(ServiceError::HypervisorRuns { process });
    }
    let Some(journal) = site.existing_journal()? else {
        return Ok(Finished::default());
    };
    let hosts = autostarted().map_err(LabError::io("reading what libvirtd starts at boot"))?;
    Ok(scenario::before_libvirt(&journal, &hosts)?)
}

/// All labs, once libvirt answers: it may have started a moment ago, and ask each emulator what that can do.
pub async fn labs_at_boot(site: &Site) -> Result<Vec<Found>, ServiceError> {
    let clock = &site.drivers().clock;
    let until = clock.elapsed() + LIBVIRT_DEADLINE;
    loop {
        match site.labs().await {
            Err(error @ (ServiceError::Lab(_) | ServiceError::Elsewhere { .. }))
                if clock.elapsed() < until =>
            {
                tracing::info!(%error, "libvirt does not answer yet");
                clock.sleep(AGAIN).await;
            }
            labs => return labs,
        }
    }
}

/// What was done for a lab at boot.
#[derive(Debug)]
pub struct Booted {
    /// What was reverted on this machine.
    pub outside: Vec<Recovered>,
    /// Hosts that were started.
    pub started: Vec<String>,
    /// Hosts that could not be, or whose guest did not answer, with why.
    pub off: Vec<(String, ServiceError)>,
    /// The rest.
    pub recovery: Result<Recovery, ServiceError>,
}

/// Once libvirtd runs. What was done to this machine is reverted first; then the hosts that were kept from it are started, and
/// what was done inside them is reverted there. Nothing where nothing is open.
pub async fn after_boot(
    site: &Site,
    found: &Found,
    watch: &dyn Watch,
) -> Result<Option<Booted>, ServiceError> {
    let lab = found.record.uuid;
    let lock = site.lock(found, "recover")?;
    // Read again: the lock is held now.
    let labs = site.labs().await?;
    let Some(found) = labs.into_iter().find(|now| now.record.uuid == lab) else {
        return Ok(None);
    };
    let journal = site.journal()?;
    if journal.open_acts(lab)?.is_empty() && journal.unfinished(lab)?.is_empty() {
        return Ok(None);
    }
    let hosts = scenario::put_off(&journal, lab)?;
    let world = site.world(found.clone());
    let outside = scenario::recover_outside(&world, &journal).await?;
    let (mut started, mut off) = (Vec::new(), Vec::new());
    for host in hosts {
        if let Err(error) = start(site, &found, &lock, &host, (watch, &mut started)).await {
            off.push((host, error));
        }
    }
    Ok(Some(Booted {
        outside,
        started,
        off,
        recovery: recover(site, found, watch).await,
    }))
}

/// Starts a host that libvirtd would have started, adds it to those, and waits until its guest answers.
async fn start(
    site: &Site,
    found: &Found,
    lock: &Lock,
    host: &str,
    (watch, started): (&dyn Watch, &mut Vec<String>),
) -> Result<(), ServiceError> {
    let (drivers, layout) = (site.drivers(), site.layout());
    let target = found.host(host)?.target(found.record.uuid);
    if drivers.hypervisor.domain.power_state(target).await? != Power::ShutOff {
        return Ok(());
    }
    let start = [PowerAction::Start];
    lab::power(found, lock, host, &start, drivers, layout, watch).await?;
    started.push(host.to_owned());
    if let Some(way) = found.host(host)?.way(layout, &found.networks) {
        let guest = drivers.guests.open(&way);
        tokio::select! {
            greeted = guest.greet(BOOT_DEADLINE) => drop(greeted?),
            power = lab::stopped(drivers, target) => {
                let (host, power) = (host.to_owned(), format!("{power:?}"));
                return Err(ServiceError::StoppedAtBoot { host, power });
            }
        }
    }
    Ok(())
}
