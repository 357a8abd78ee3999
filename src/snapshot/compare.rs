//! Whether a lab is what a baseline says.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use super::SnapshotError;
use super::manifest::{HostRecord, Manifest};
use super::set::Set;
use crate::hypervisor::{Anatomy, Power};
use crate::lab::FoundHost;
use crate::wire::{GuestState, InstanceState, ProcessState, ServiceState};

/// Tells in which ways a lab is not what it was when a baseline was taken; empty where it is. Compared are power,
/// definitions, devices, networks, services, what nova-compute was told, and its instances; what changes by itself is not:
/// process ids, times, memory in use.
pub async fn differences(set: Set<'_>, name: &str) -> Result<Vec<String>, SnapshotError> {
    let manifest = super::show(&set, name)?;
    let parts = set.anatomies().await?;
    let mut found = networks(&set, &manifest).await?;
    let compared = manifest.hosts.iter().map(|record| {
        let host = set.found.host(&record.name).ok();
        let now = parts.iter().find(|(name, _)| *name == record.name);
        let set = &set;
        async move {
            let (Some(host), Some((_, now))) = (host, now) else {
                return vec![format!("{}: its domain is gone", record.name)];
            };
            let mut found = domain(record, now);
            if now.power == Power::Running && record.power == Power::Running {
                found.extend(guest(set, record, host).await);
            }
            found
        }
    });
    found.extend(join_all(compared).await.into_iter().flatten());
    Ok(found)
}

async fn networks(set: &Set<'_>, manifest: &Manifest) -> Result<Vec<String>, SnapshotError> {
    let now = set.drivers.hypervisor.inventory.networks().await?;
    let known = set.found.networks.iter();
    let specs: Vec<serde_json::Value> = known
        .clone()
        .map(|(_, spec)| serde_json::to_value(spec).unwrap_or_default())
        .collect();
    let mut found = Vec::new();
    if !same_in_any_order(&specs, &manifest.networks) {
        found.push("the lab's networks are not as they were".to_owned());
    }
    found.extend(
        known
            .filter(|(_, spec)| !now.iter().any(|net| net.uuid == spec.uuid && net.active))
            .map(|(_, spec)| format!("network {} is down", spec.name)),
    );
    Ok(found)
}

/// Whether both hold the same: a baseline has its networks in the order in which they were listed when it was taken.
fn same_in_any_order(some: &[serde_json::Value], others: &[serde_json::Value]) -> bool {
    let sorted = |values: &[serde_json::Value]| {
        let mut texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        texts.sort();
        texts
    };
    sorted(some) == sorted(others)
}

/// Compares what the hypervisor says.
fn domain(record: &HostRecord, now: &Anatomy) -> Vec<String> {
    let mut found = Vec::new();
    if now.power != record.power {
        found.push(format!(
            "{}: it is {:?}, and was {:?}",
            record.name, now.power, record.power
        ));
        return found;
    }
    for (same, what) in [
        (now.definition == record.definition, "definition"),
        (now.devices == record.devices, "devices"),
        (now.machine == record.machine, "machine type"),
    ] {
        if !same {
            found.push(format!("{}: its {what} changed", record.name));
        }
    }
    found
}

/// Compares what the guest says.
async fn guest(set: &Set<'_>, record: &HostRecord, host: &FoundHost) -> Vec<String> {
    let (Some(was), Some(guest)) = (&record.guest, set.guest(host)) else {
        return Vec::new();
    };
    match guest.state().await {
        Ok(now) => states(&record.name, was, &now),
        Err(error) => vec![format!("{}: {error}", record.name)],
    }
}

/// What of a guest's state does not change by itself, each thing with its state in words.
fn words(state: &GuestState) -> BTreeMap<String, String> {
    let services = state
        .services
        .iter()
        .map(|service| (format!("service {}", service.name), service_words(service)));
    let instances = state.instances.iter().map(|instance| {
        let what = format!("instance {}", instance.name);
        (what, instance_words(instance))
    });
    let reserved = state.reserved_mib.map(|mib| format!("{mib}MiB"));
    let reserved = reserved.map(|mib| ("the reserved memory".to_owned(), mib));
    let resume = state
        .resume
        .map(|resume| ("resuming at boot".to_owned(), resume.to_string()));
    services
        .chain(instances)
        .chain(reserved)
        .chain(resume)
        .collect()
}

fn states(name: &str, was: &GuestState, now: &GuestState) -> Vec<String> {
    let (was, now) = (words(was), words(now));
    let things: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let word = |state: &BTreeMap<String, String>, what: &str| {
        state
            .get(what)
            .cloned()
            .unwrap_or_else(|| "not there".into())
    };
    things
        .into_iter()
        .filter(|what| was.get(*what) != now.get(*what))
        .map(|what| {
            format!(
                "{name}: {what} is {}, and was {}",
                word(&now, what),
                word(&was, what)
            )
        })
        .collect()
}

fn process_words(process: Option<&ProcessState>) -> String {
    process.map_or_else(
        || "without a process".into(),
        |process| format!("oom_score_adj {}", process.oom_score_adj),
    )
}

fn service_words(service: &ServiceState) -> String {
    let wanted = if service.wanted {
        "wanted"
    } else {
        "not wanted"
    };
    let healthy = if service.healthy {
        "healthy"
    } else {
        "not healthy"
    };
    format!(
        "{wanted}, {healthy}, {}",
        process_words(service.process.as_ref())
    )
}

fn instance_words(instance: &InstanceState) -> String {
    let status = instance.status();
    let process = process_words(instance.process.as_ref());
    format!("{status:?}, {}MiB, {process}", instance.flavor_mib)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::VmState;

    #[test]
    fn networks_are_the_same_in_any_order() {
        let [one, two] = ["metal", "provider"].map(|name| serde_json::json!({"name": name}));
        let both = [one.clone(), two.clone()];
        assert!(same_in_any_order(&both, &[two.clone(), one.clone()]));
        assert!(!same_in_any_order(&both, &[one.clone(), one.clone()]));
        assert!(!same_in_any_order(&both, &[one]));
    }

    fn state() -> GuestState {
        let process = ProcessState {
            pid: 7,
            rss_kib: 9,
            oom_score_adj: 0,
        };
        GuestState {
            reserved_mib: Some(512),
            services: vec![ServiceState {
                name: "mysqld".into(),
                process: Some(process.clone()),
                wanted: true,
                healthy: true,
            }],
            instances: vec![InstanceState {
                name: "vm".into(),
                flavor_mib: 64,
                memory_mib: 4,
                vm_state: VmState::Active,
                process: Some(process),
                last_pid: None,
                touching: false,
                touched: false,
            }],
            ..GuestState::default()
        }
    }

    #[test]
    fn what_changes_by_itself_is_no_difference_and_anything_else_is() {
        let was = state();
        let mut now = state();
        now.uptime_ms = 99;
        now.services[0].process.as_mut().expect("a process").pid = 8;
        assert_eq!(states("a", &was, &now), Vec::<String>::new());
        let changes: [fn(&mut GuestState); 6] = [
            |state| state.reserved_mib = Some(1024),
            |state| state.services[0].healthy = false,
            |state| state.services.clear(),
            |state| state.instances[0].vm_state = VmState::Stopped,
            |state| state.instances[0].process = None,
            |state| state.instances[0].name = "other".into(),
        ];
        for change in changes {
            let mut now = state();
            change(&mut now);
            assert!(!states("a", &was, &now).is_empty(), "{now:?}");
        }
    }
}
