//! Removing all that carries a lab's mark.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{Drivers, Event, Found, LabError, Layout, Lock, LockError, Watch, leftover};
use crate::hypervisor::Target;
use crate::journal::Journal;
use crate::plan::{hold_table, table_name};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Domains, networks, tables and directories, by name.
    pub removed: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Removes a lab. Works from the marks alone; the journal, where there is one, forgets it.
pub async fn destroy(
    found: &Found,
    drivers: &Drivers,
    layout: &Layout,
    journal: Option<&Journal>,
    watch: &dyn Watch,
) -> Result<Destroyed, LabError> {
    let machine = drivers.hypervisor.machine().await?;
    let record = &found.record;
    let _lock = Lock::lab(machine.uuid, record.uuid, record.name.as_str(), "destroy")?;
    let started = drivers.clock.elapsed();
    // What was found before the lock was taken may be old.
    let labs = super::find_all(drivers, layout).await?;
    let found = labs
        .into_iter()
        .find(|lab| lab.record.uuid == record.uuid)
        .unwrap_or_else(|| Found {
            record: record.clone(),
            hosts: Vec::new(),
            networks: Vec::new(),
        });
    let operation = journal
        .map(|journal| journal.begin(record.uuid, "destroy"))
        .transpose()?;
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
                .remove_domain(Target {
                    uuid: host.domain.uuid,
                    lab: record.uuid,
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
    for (network, _) in &found.networks {
        let target = Target {
            uuid: network.uuid,
            lab: record.uuid,
        };
        leftover::clear(drivers, target).await?;
        drivers.hypervisor.remove_network(target).await?;
        removed.push(format!("network {}", network.name));
    }
    let own = [table_name(record.uuid), hold_table(record.uuid)];
    for (family, name) in drivers.hostnet.tables().await? {
        if own.contains(&name) {
            drivers.hostnet.remove_table(&family, &name).await?;
            removed.push(format!("table {family} {name}"));
        }
    }
    if layout.remove_lab(record.uuid)? {
        removed.push(layout.lab(record.uuid).display().to_string());
    }
    give_back(layout).await;
    if let (Some(journal), Some(operation)) = (journal, operation) {
        journal.end(operation, "done")?;
        journal.forget(record.uuid)?;
    }
    removed.sort();
    Ok(Destroyed {
        removed,
        took: drivers.clock.elapsed().saturating_sub(started),
    })
}

/// Removes what twins that died left of labs' directories while they made or removed them. A lab that somebody is at is left
/// to them.
pub async fn sweep(drivers: &Drivers, layout: &Layout) -> Result<Vec<String>, LabError> {
    let mut swept = Vec::new();
    for lab in layout.unsettled() {
        let machine = drivers.hypervisor.machine().await?;
        match Lock::lab(machine.uuid, lab, &lab.to_string(), "destroy") {
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
