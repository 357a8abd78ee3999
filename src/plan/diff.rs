//! Comparing what is there with what is wanted.

use std::collections::BTreeSet;

use super::{
    Act, Blocked, Desired, Observed, Plan, Present, Running, Step, Subject, Wanted, bridge_mark,
};
use crate::model::spec::{DomainSpec, Marked, NetworkSpec};
use crate::units::Name;
use crate::wire::HostConfig;

/// Makes the plan. Strangers' things in the way are [`super::conflicts`]'s to find.
pub fn make(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    if !observed.files.contains(&desired.directory) {
        plan.steps.push(Step::new(
            Subject::Lab,
            "directory",
            Act::MakeDirectory(desired.directory.clone()),
        ));
    }
    for network in &desired.networks {
        plan_network(desired, observed, network, &mut plan);
    }
    for wanted in desired.chosen() {
        plan_host(desired, observed, wanted, &mut plan);
    }
    for present in &observed.domains {
        let Some(mark) = present
            .mark
            .as_ref()
            .filter(|mark| mark.lab.uuid == desired.lab)
        else {
            continue;
        };
        if desired
            .domains
            .iter()
            .any(|wanted| wanted.domain.spec.uuid == present.uuid)
        {
            continue;
        }
        if let (true, Some(spec)) = (
            desired.replace.contains(&mark.thing),
            recorded_spec(present),
        ) {
            let domain = Marked {
                spec,
                mark: mark.clone(),
            };
            plan.steps.push(Step::new(
                Subject::Host(mark.thing.clone()),
                "remove",
                Act::RemoveDomain(Box::new(domain)),
            ));
        } else {
            plan.blocked.push(Blocked {
                thing: mark.thing.to_string(),
                why: "it is in the lab and not in the topology".into(),
                cure: format!(
                    "`twin up --replace {}` removes it with its disks",
                    mark.thing
                ),
            });
        }
    }
    plan
}

fn plan_network(
    desired: &Desired,
    observed: &Observed,
    network: &Marked<NetworkSpec>,
    plan: &mut Plan,
) {
    let name = network.mark.thing.clone();
    let present = observed
        .networks
        .iter()
        .find(|present| present.uuid == network.spec.uuid);
    let subject = || Subject::Network(name.clone());
    let recorded = present
        .and_then(|present| present.mark.as_ref())
        .and_then(|mark| serde_json::from_value::<NetworkSpec>(mark.spec.clone()).ok());
    let active = present.is_some_and(|present| present.state.active);
    match recorded {
        Some(recorded) if recorded == network.spec => {}
        // Leases take effect when the network is next started; guests with twin-guest do not ask for any.
        Some(recorded)
            if NetworkSpec {
                leases: network.spec.leases.clone(),
                ..recorded.clone()
            } == network.spec =>
        {
            plan.steps.push(Step::new(
                subject(),
                "define",
                Act::DefineNetwork(Box::new(network.clone())),
            ));
        }
        Some(_) if active => {
            plan.blocked.push(Blocked {
                thing: format!("network {name}"),
                why: "its definition differs, and changing it would cut the hosts on it off".into(),
                cure: "`twin destroy`, then `twin up`".into(),
            });
            return;
        }
        _ => plan.steps.push(Step::new(
            subject(),
            "define",
            Act::DefineNetwork(Box::new(network.clone())),
        )),
    }
    if !active {
        plan.steps.push(Step::new(
            subject(),
            "start",
            Act::StartNetwork(Box::new(network.clone())),
        ));
    }
    let mark = bridge_mark(desired.lab);
    let marked = observed
        .links
        .iter()
        .any(|link| link.name == network.spec.bridge && link.alias.as_ref() == Some(&mark));
    if !active || !marked {
        plan.steps.push(Step::new(
            subject(),
            "mark",
            Act::MarkBridge(network.spec.bridge.clone()),
        ));
    }
}

fn plan_host(desired: &Desired, observed: &Observed, wanted: &Wanted, plan: &mut Plan) {
    let name = wanted.domain.mark.thing.clone();
    let subject = || Subject::Host(name.clone());
    let replaced = desired.replace.contains(&name);
    let present = observed
        .domains
        .iter()
        .find(|present| present.uuid == wanted.domain.spec.uuid);
    let boxed = || Box::new(wanted.domain.clone());
    let recorded = present.and_then(recorded_spec);
    let fresh = replaced || present.is_none();
    let kept = recorded.as_ref().filter(|_| !replaced).map_or_else(
        || wanted.domain.clone(),
        |recorded| keep_image(&wanted.domain, recorded, plan),
    );

    if replaced && present.is_some() {
        plan.steps
            .push(Step::new(subject(), "remove", Act::RemoveDomain(boxed())));
    }
    let directory = kept
        .spec
        .channel
        .parent()
        .map(std::path::Path::to_path_buf)
        .unwrap_or_default();
    if !observed.files.contains(&directory) {
        plan.steps.push(Step::new(
            subject(),
            "directory",
            Act::MakeDirectory(directory),
        ));
    }
    for (index, disk) in kept.spec.disks.iter().enumerate() {
        // A disk without its domain is what a killed twin left: never booted, or about to be removed.
        if fresh || !observed.files.contains(&disk.path) {
            plan.steps.push(Step::new(
                subject(),
                &format!("disk{index}"),
                Act::MakeDisk(disk.clone()),
            ));
        }
    }
    if let Some(seed) = &kept.spec.seed_iso
        && (fresh || !observed.files.contains(seed))
    {
        plan.steps
            .push(Step::new(subject(), "seed", Act::MakeSeed(seed.clone())));
    }
    if fresh {
        plan.steps
            .push(Step::new(subject(), "define", Act::DefineDomain(boxed())));
        start(wanted, &wanted.domain, subject(), plan);
        return;
    }
    let running = present.map_or(Running::No, |present| present.state);
    let changed = recorded
        .as_ref()
        .map(|recorded| changes(recorded, &kept.spec))
        .unwrap_or_default();
    match running {
        Running::Stuck(state) => plan.blocked.push(Blocked {
            thing: name.to_string(),
            why: format!("it is {state}"),
            cure: format!("`twin power cycle {name}` starts it anew; `twin console {name}` and `twin status` show more"),
        }),
        Running::No => {
            if !changed.is_empty() {
                plan.steps.push(Step::new(subject(), "define", Act::DefineDomain(Box::new(kept.clone()))));
            }
            start(wanted, &kept, subject(), plan);
        }
        // An earlier `up` may have been stopped while it waited: running is not yet answering.
        Running::Yes if changed.is_empty() => wait(wanted, &kept, subject(), plan),
        Running::Yes if changed.is_subset(&BTreeSet::from(["services", "autostart"])) => {
            plan.steps.push(Step::new(subject(), "define", Act::DefineDomain(Box::new(kept.clone()))));
            if changed.contains("services") {
                plan.steps.push(Step::new(subject(), "configure", Act::Configure(Box::new(kept))));
            }
        }
        Running::Yes => plan.blocked.push(Blocked {
            thing: name.to_string(),
            why: format!("a change of its {} needs it made anew", changed.into_iter().collect::<Vec<_>>().join(", ")),
            cure: format!("`twin up --replace {name}` does it; its disks are lost"),
        }),
    }
}

fn start(wanted: &Wanted, domain: &Marked<DomainSpec>, subject: Subject, plan: &mut Plan) {
    plan.steps.push(Step::new(
        subject.clone(),
        "start",
        Act::StartDomain(Box::new(domain.clone())),
    ));
    wait(wanted, domain, subject, plan);
}

fn wait(wanted: &Wanted, domain: &Marked<DomainSpec>, subject: Subject, plan: &mut Plan) {
    if wanted.answers {
        plan.steps.push(Step::new(
            subject,
            "answer",
            Act::Await(Box::new(domain.clone())),
        ));
    }
}

fn recorded_spec(present: &Present<Running>) -> Option<DomainSpec> {
    serde_json::from_value(present.mark.as_ref()?.spec.clone()).ok()
}

/// A host keeps the build of its image that it was made with; a newer build is for new hosts.
fn keep_image(
    domain: &Marked<DomainSpec>,
    recorded: &DomainSpec,
    plan: &mut Plan,
) -> Marked<DomainSpec> {
    let mut kept = domain.clone();
    let same_kind =
        std::mem::discriminant(&kept.spec.boot) == std::mem::discriminant(&recorded.boot);
    let backing = |spec: &DomainSpec| spec.disks.first().and_then(|disk| disk.backing.clone());
    if !same_kind || (kept.spec.boot == recorded.boot && backing(&kept.spec) == backing(recorded)) {
        return kept;
    }
    let thing: &Name = &domain.mark.thing;
    plan.notes.push(format!(
        "{thing} keeps its build of the image; `twin up --replace {thing}` takes the newer one"
    ));
    kept.spec.boot = recorded.boot.clone();
    kept.spec.memory = recorded.memory;
    if let (Some(disk), Some(old)) = (kept.spec.disks.first_mut(), recorded.disks.first()) {
        disk.backing.clone_from(&old.backing);
    }
    kept.mark.spec = serde_json::to_value(&kept.spec).unwrap_or_default();
    kept
}

/// Names what differs between two specs.
fn changes(old: &DomainSpec, new: &DomainSpec) -> BTreeSet<&'static str> {
    let mut changed = BTreeSet::new();
    let mut note = |differs: bool, what: &'static str| {
        if differs {
            changed.insert(what);
        }
    };
    note(old.memory != new.memory, "memory");
    note(old.vcpus != new.vcpus, "vcpus");
    note(old.ram != new.ram, "ram");
    note(old.disks != new.disks, "disks");
    note(old.nics != new.nics, "nics");
    note(old.autostart != new.autostart, "autostart");
    note(
        old.boot != new.boot || old.seed_iso != new.seed_iso,
        "image",
    );
    note(old.accelerator != new.accelerator, "accelerator");
    note(
        old.channel != new.channel || old.serial_log != new.serial_log,
        "directory",
    );
    if old.config != new.config {
        let parse = |text: &Option<String>| {
            text.as_deref()
                .and_then(|text| serde_json::from_str::<HostConfig>(text).ok())
                .unwrap_or_default()
        };
        let (old, new) = (parse(&old.config), parse(&new.config));
        note(
            old.nics != new.nics || old.hostname != new.hostname,
            "addresses",
        );
        note(
            old.services != new.services
                || old.compute != new.compute
                || old.hosts != new.hosts
                || old.time_scale != new.time_scale,
            "services",
        );
    }
    changed
}
