//! Comparing what is there with what is wanted.

use std::collections::BTreeSet;
use std::path::Path;

use super::disks::{self, Standing};
use super::{
    Act, Blocked, Desired, OUT_OF_SPACE, Observed, Plan, Present, PresentDomain, Running, Step,
    Subject, Wanted, bridge_mark,
};
use crate::model::Mark;
use crate::model::spec::{DomainSpec, Marked, NetworkSpec};
use crate::units::Name;
use crate::wire::HostConfig;

/// What a directory takes, where it takes anything.
fn directory(observed: &Observed, path: &Path) -> Option<Act> {
    if observed.files.contains(path) {
        return None;
    }
    Some(if observed.closed.contains(path) {
        Act::OpenDirectory(path.to_owned())
    } else {
        Act::MakeDirectory(path.to_owned())
    })
}

/// Makes the plan. Strangers' things in the way are [`super::conflicts`]'s to find.
pub fn make(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let made = directory(observed, &desired.directory);
    plan.steps
        .extend(made.map(|act| Step::new(Subject::Lab, "directory", act)));
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
        let spec = recorded_spec(present);
        let Some(spec) = spec.filter(|_| desired.replace.contains(&mark.thing)) else {
            plan.blocked.push(Blocked {
                thing: mark.thing.to_string(),
                why: "it is in the lab and not in the topology".into(),
                cure: format!(
                    "`{} --replace {}` removes its domain, with `--blank` its disks too",
                    desired.again, mark.thing
                ),
            });
            continue;
        };
        plan_removal(desired, observed, present, mark, &spec, &mut plan);
    }
    plan
}

/// Removes a host that the topology does not have any more.
fn plan_removal(
    desired: &Desired,
    observed: &Observed,
    present: &Present<PresentDomain>,
    mark: &Mark,
    spec: &DomainSpec,
    plan: &mut Plan,
) {
    if let Some((was, is)) = disks::moved(spec, &present.state.disks) {
        let blocked = disks::moved_blocks(&mark.thing, was, is);
        plan.blocked.push(blocked);
        return;
    }
    let domain = Marked {
        spec: spec.clone(),
        mark: mark.clone(),
    };
    let subject = || Subject::Host(mark.thing.clone());
    plan.steps.push(Step::new(
        subject(),
        "remove",
        Act::RemoveDomain(Box::new(domain)),
    ));
    let there = spec.disks.iter().map(|disk| &disk.path);
    for (index, path) in there
        .filter(|path| observed.files.contains(*path))
        .enumerate()
    {
        match observed.users.get(path) {
            Some(users) if desired.blank => plan.notes.push(format!(
                "{} stays: {} uses it",
                path.display(),
                users.join(", ")
            )),
            _ if desired.blank => plan.steps.push(Step::new(
                subject(),
                &format!("remove-disk{index}"),
                Act::RemoveDisk(path.clone()),
            )),
            _ => plan.notes.push(format!("{} stays", path.display())),
        }
    }
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
        Some(recorded) if recorded.serves_as(&network.spec) => {
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
                cure: format!(
                    "`twin destroy`, then `{}`; the hosts' disks and baselines go with that",
                    desired.again
                ),
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
    let recorded = present.and_then(recorded_spec);
    let fresh = replaced || present.is_none();
    let mut kept = recorded.as_ref().filter(|_| !replaced).map_or_else(
        || wanted.domain.clone(),
        |recorded| keep_image(desired, &wanted.domain, recorded, plan),
    );
    let running = present.map_or(Running::No, |present| present.state.running);
    let standing = Standing {
        fresh,
        replaced,
        running: running == Running::Yes && !replaced,
    };
    let settled = disks::settle(desired, observed, &name, &mut kept.spec, standing);
    let settled = match settled {
        Ok(settled) => settled,
        Err(blocked) => {
            plan.blocked.push(blocked);
            return;
        }
    };
    record(desired, &mut kept, recorded.as_ref(), standing, plan);
    let changed = recorded
        .as_ref()
        .filter(|_| !fresh)
        .map(|recorded| changes(recorded, &kept.spec))
        .unwrap_or_default();
    // Its definition is written anew, and would take away what another tool has put into it.
    let redefined = replaced || !changed.is_empty();
    let moved = present
        .zip(recorded.as_ref())
        .and_then(|(present, recorded)| disks::moved(recorded, &present.state.disks));
    if let Some((was, is)) = moved.filter(|_| redefined) {
        plan.blocked.push(disks::moved_blocks(&name, was, is));
        return;
    }

    if replaced && present.is_some() {
        plan.steps.push(Step::new(
            subject(),
            "remove",
            Act::RemoveDomain(Box::new(wanted.domain.clone())),
        ));
    }
    files(observed, &kept.spec, fresh, settled, plan, &subject());
    if fresh {
        plan.steps.push(define(&kept, subject()));
        start(wanted, &kept, subject(), plan);
        return;
    }
    let persistent = present.is_some_and(|present| present.state.persistent);
    match running {
        Running::Stuck(state) => plan.blocked.push(stuck(&name, state)),
        Running::No => {
            if !changed.is_empty() {
                plan.steps.push(define(&kept, subject()));
            }
            start(wanted, &kept, subject(), plan);
        }
        Running::Yes => plan_running(desired, wanted, kept, &changed, persistent, plan),
    }
}

/// A host that neither runs nor is off.
fn stuck(name: &Name, state: &str) -> Blocked {
    Blocked {
        thing: name.to_string(),
        why: format!("it is {state}"),
        cure: match state {
            OUT_OF_SPACE => {
                format!("free space, then `twin power resume {name}`: it goes on where it stands")
            }
            "paused" => format!(
                "`twin power resume {name}` lets it go on; `twin power cycle {name}` starts it anew, and what is in its memory goes"
            ),
            _ => format!(
                "`twin power cycle {name}` starts it anew; `twin console {name}` and `twin status` show more"
            ),
        },
    }
}

/// The steps that make a host's files.
fn files(
    observed: &Observed,
    spec: &DomainSpec,
    fresh: bool,
    settled: disks::Disks,
    plan: &mut Plan,
    subject: &Subject,
) {
    let directory = spec
        .channel
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let made = self::directory(observed, &directory);
    plan.steps
        .extend(made.map(|act| Step::new(subject.clone(), "directory", act)));
    let first = settled.steps.iter().any(|(_, act)| {
        let system = spec.disks.first().map(|disk| &disk.path);
        matches!(act, Act::MakeDisk(disk) | Act::BlankDisk(disk) if Some(&disk.path) == system)
    });
    plan.notes.extend(settled.notes);
    let disk_steps = settled.steps.into_iter();
    plan.steps
        .extend(disk_steps.map(|(verb, act)| Step::new(subject.clone(), &verb, act)));
    if let Some(seed) = &spec.seed_iso
        && (fresh || first || !observed.files.contains(seed))
    {
        let path = seed.clone();
        plan.steps.push(Step::new(
            subject.clone(),
            "seed",
            Act::MakeSeed { path, first },
        ));
    }
}

/// A host that runs: what it can follow while it does is done, all else is named.
fn plan_running(
    desired: &Desired,
    wanted: &Wanted,
    kept: Marked<DomainSpec>,
    changed: &BTreeSet<&'static str>,
    persistent: bool,
    plan: &mut Plan,
) {
    let name = kept.mark.thing.clone();
    let subject = || Subject::Host(name.clone());
    if changed.is_empty() {
        // Its definition was removed while it ran: its process is all that there is of it.
        if !persistent {
            plan.notes.push(format!(
                "{name} runs and is not defined any more; it is defined again"
            ));
            plan.steps.push(define(&kept, subject()));
        }
        // An earlier `up` may have been stopped while it waited: running is not yet answering.
        wait(wanted, &kept, subject(), plan);
    } else if changed.is_subset(&BTreeSet::from(["services", "autostart"])) {
        plan.steps.push(define(&kept, subject()));
        if changed.contains("services") {
            let configure = Act::Configure(Box::new(kept));
            plan.steps
                .push(Step::new(subject(), "configure", configure));
        }
    } else {
        let parts: Vec<&str> = changed.iter().copied().collect();
        plan.blocked.push(Blocked {
            thing: name.to_string(),
            why: format!("a change of its {} needs it made anew", parts.join(", ")),
            cure: format!(
                "`{} --replace {name}` does it: it is switched off, its disks stay",
                desired.again
            ),
        });
    }
}

fn define(kept: &Marked<DomainSpec>, subject: Subject) -> Step {
    Step::new(subject, "define", Act::DefineDomain(Box::new(kept.clone())))
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

fn recorded_spec(present: &Present<PresentDomain>) -> Option<DomainSpec> {
    serde_json::from_value(present.mark.as_ref()?.spec.clone()).ok()
}

/// A host keeps the build of its image that it was made with; a newer build is for new hosts.
fn keep_image(
    desired: &Desired,
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
        "{thing} keeps its build of the image; `{} --replace {thing}` takes the newer one where its disk allows it",
        desired.again
    ));
    kept.spec.boot = recorded.boot.clone();
    kept.spec.memory = recorded.memory;
    if let (Some(disk), Some(old)) = (kept.spec.disks.first_mut(), recorded.disks.first()) {
        disk.backing.clone_from(&old.backing);
    }
    kept.mark.spec = serde_json::to_value(&kept.spec).unwrap_or_default();
    kept
}

/// Writes a host's spec into its mark. Where it runs, its disks stay as an older twin made them, without flushes; what that
/// means is said.
fn record(
    desired: &Desired,
    kept: &mut Marked<DomainSpec>,
    recorded: Option<&DomainSpec>,
    standing: Standing,
    plan: &mut Plan,
) {
    let mut keeps = false;
    let recorded = recorded.filter(|_| standing.running);
    let recorded = recorded.into_iter().flat_map(|recorded| &recorded.disks);
    for (disk, old) in kept.spec.disks.iter_mut().zip(recorded) {
        keeps |= old.scratch && !disk.scratch;
        disk.scratch = old.scratch;
    }
    if keeps {
        plan.notes.push(format!(
            "{} does not flush its disk (cache=unsafe): a power loss of this machine may damage it, and the baselines in it; `twin down`, then `{}`, ends that, and restoring a baseline from before brings it back",
            kept.mark.thing, desired.again
        ));
    }
    kept.mark.spec = serde_json::to_value(&kept.spec).unwrap_or_default();
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
