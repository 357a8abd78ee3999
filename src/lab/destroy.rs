//! Removing all that carries a lab's mark.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{Drivers, Event, Found, LabError, Layout, Lock, LockError, Watch, leftover};
use crate::clock::Clock;
use crate::hypervisor::Target;
use crate::journal::Journal;
use crate::plan::{hold_table, table_name};
use crate::storage::Left;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Domains, networks, tables and directories, by name.
    pub removed: Vec<String>,
    /// Files in the lab's directory that stay, and why.
    pub left: Vec<Left>,
    /// How long it took.
    pub took: Duration,
}

/// What destroying a lab would do: what goes, and what stays of its directory.
pub async fn doomed(
    found: &Found,
    drivers: &Drivers,
    layout: &Layout,
) -> Result<(Vec<String>, Vec<Left>), LabError> {
    let uuid = found.record.uuid;
    let mut goes: Vec<String> = Vec::new();
    for host in &found.hosts {
        let disks: Vec<String> = host
            .spec
            .disks
            .iter()
            .map(|disk| disk.path.display().to_string())
            .collect();
        goes.push(format!(
            "domain {} with {}",
            host.domain.name,
            if disks.is_empty() {
                "no disk".to_owned()
            } else {
                disks.join(", ")
            }
        ));
    }
    goes.extend(
        found
            .networks
            .iter()
            .map(|(network, _)| format!("network {}", network.name)),
    );
    let own = [table_name(uuid), hold_table(uuid)];
    // Rules can be listed by root only; without, they are not named.
    let tables = drivers.hostnet.firewall.tables().await.unwrap_or_default();
    let tables = tables.into_iter().filter(|(_, name)| own.contains(name));
    goes.extend(tables.map(|(family, name)| format!("table {family} {name}")));
    let users = super::users::users(drivers, found).await?;
    let left = layout.survey_lab(uuid, &found.host_names(), &users)?;
    if layout.lab(uuid).exists() {
        goes.push(format!("directory {}", layout.lab(uuid).display()));
    }
    Ok((goes, left))
}

/// Removes a lab. Works from the marks alone; the journal, where there is one, forgets it. Called with the lab's lock.
pub async fn destroy(
    found: &Found,
    lock: &Lock,
    drivers: &Drivers,
    layout: &Layout,
    journal: Option<&Journal>,
    watch: &dyn Watch,
) -> Result<Destroyed, LabError> {
    lock.check()?;
    let record = &found.record;
    let started = drivers.clock.elapsed();
    if let Some(journal) = journal {
        journal.point();
    }
    let mut removed = remove_domains(found, drivers, watch).await?;
    for (network, _) in &found.networks {
        let target = Target {
            uuid: network.uuid,
            lab: record.uuid,
        };
        leftover::clear(drivers, target).await?;
        drivers.hypervisor.network.remove_network(target).await?;
        removed.push(format!("network {}", network.name));
    }
    let own = [table_name(record.uuid), hold_table(record.uuid)];
    for (family, name) in drivers.hostnet.firewall.tables().await? {
        if own.contains(&name) {
            drivers
                .hostnet
                .firewall
                .remove_table(&family, &name)
                .await?;
            removed.push(format!("table {family} {name}"));
        }
    }
    let users = super::users::users(drivers, found).await?;
    lock.check()?;
    // Before the directory goes, by which the lab is found: a lab of this name has this UUID again, and would have these faults.
    layout.forget_captured(record.uuid)?;
    if let Some(journal) = journal {
        journal.forget(record.uuid)?;
    }
    let removal = layout.remove_lab(record.uuid, &found.host_names(), &users)?;
    if removal.removed && removal.left.is_empty() {
        removed.push(layout.lab(record.uuid).display().to_string());
    }
    give_back(layout).await;
    removed.sort();
    Ok(Destroyed {
        removed,
        left: removal.left,
        took: drivers.clock.elapsed().saturating_sub(started),
    })
}

/// Removes all domains of a lab at once; returns what was removed.
async fn remove_domains(
    found: &Found,
    drivers: &Drivers,
    watch: &dyn Watch,
) -> Result<Vec<String>, LabError> {
    let mut removed = Vec::new();

    let mut domains: FuturesUnordered<_> = found
        .hosts
        .iter()
        .map(|host| async move {
            watch.tell(Event::Started {
                id: "remove",
                host: Some(host.name.as_str()),
                what: "remove domain",
            });
            let outcome = drivers
                .hypervisor
                .domain
                .remove_domain(Target {
                    uuid: host.domain.uuid,
                    lab: found.record.uuid,
                })
                .await;
            watch.tell(Event::Done {
                id: "remove",
                host: Some(host.name.as_str()),
            });
            outcome.map(|()| format!("domain {}", host.domain.name))
        })
        .collect();
    while let Some(outcome) = domains.next().await {
        removed.push(outcome?);
    }
    Ok(removed)
}

/// Removes what twins that died left of labs' directories while they made or removed them. A lab whose lock another
/// process has is left to that.
pub fn sweep(layout: &Layout, clock: &dyn Clock) -> Result<Vec<String>, LabError> {
    let mut swept = Vec::new();
    for lab in layout.unsettled() {
        match Lock::lab(lab, &lab.to_string(), "destroy", clock) {
            Ok(_lock) => swept.extend(layout.sweep(lab)?),
            Err(LockError::Held { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(swept
        .iter()
        .map(|path| path.display().to_string())
        .collect())
}

/// Lets the pool's loop file shrink by what was removed; a file system of its own is left to its owner. Where it cannot be
/// done, the space is used again by the next lab all the same.
async fn give_back(layout: &Layout) {
    if layout.pool_image().exists() {
        let _ = tokio::process::Command::new("fstrim")
            .arg(layout.pool())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
    }
}
