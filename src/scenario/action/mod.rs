//! What can be done to a lab. One file an action, and a line in [`ALL`].

mod clock_step;
mod compute_reserve;
mod compute_resume;
mod contract;
mod default_route;
mod disk_fill;
mod disk_throttle;
mod dns;
mod file_change;
mod forward_policy;
mod host_autostart;
mod host_power;
mod host_release;
pub(super) mod inside;
mod instance_boot;
mod instance_fill;
mod instance_kill;
mod instance_touch;
mod memory_balloon;
mod net_emulate;
mod nic_attach;
mod nic_bandwidth;
mod nic_detach;
mod nic_down;
mod nic_link;
mod partition;
mod pod;
mod policy_route;
mod pressure;
mod process_signal;
mod ran;
mod service_run;
mod service_stop;

pub use contract::{Action, Verified};

pub(super) use clock_step::{NAME as CLOCK_STEP, before_a_pause};
pub(super) use host_autostart::NAME as HOST_AUTOSTART;
pub(super) use instance_fill::{allocated, flavor, inventory};
pub(super) use instance_kill::instance;
pub(super) use pod::TABLE as POD_TABLE;
pub(super) use process_signal::found as processes;

use super::error::ScenarioProblem;
use super::{ActionError, World};
use crate::diagnostics::{Key, Keys, Node, Reader, keys_of, nearest};
use crate::hypervisor::Power;

type ParseFn = fn(&Node, &mut Reader) -> Option<Box<dyn Action>>;
type UndoFuture<'u> =
    std::pin::Pin<Box<dyn Future<Output = Result<String, ActionError>> + Send + 'u>>;
type UndoFn = for<'u> fn(&'u World, serde_json::Value) -> UndoFuture<'u>;

/// The actions: name, parser, undo.
const ALL: &[(&str, ParseFn, UndoFn)] = &[
    (
        compute_reserve::NAME,
        compute_reserve::parse,
        |world, captured| Box::pin(compute_reserve::undo(world, captured)),
    ),
    (
        compute_resume::NAME,
        compute_resume::parse,
        |world, captured| Box::pin(compute_resume::undo(world, captured)),
    ),
    (
        default_route::NAME,
        default_route::parse,
        |world, captured| Box::pin(default_route::undo(world, captured)),
    ),
    (nic_down::NAME, nic_down::parse, |world, captured| {
        Box::pin(nic_down::undo(world, captured))
    }),
    (
        process_signal::NAME,
        process_signal::parse,
        |world, captured| Box::pin(process_signal::undo(world, captured)),
    ),
    (
        pressure::MEMORY,
        pressure::parse_memory,
        |world, captured| Box::pin(pressure::undo(world, captured)),
    ),
    (pressure::CPU, pressure::parse_cpu, |world, captured| {
        Box::pin(pressure::undo(world, captured))
    }),
    (clock_step::NAME, clock_step::parse, |world, captured| {
        Box::pin(clock_step::undo(world, captured))
    }),
    (dns::NAME, dns::parse, |world, captured| {
        Box::pin(dns::undo(world, captured))
    }),
    (
        forward_policy::NAME,
        forward_policy::parse,
        |world, captured| Box::pin(forward_policy::undo(world, captured)),
    ),
    (nic_attach::NAME, nic_attach::parse, |world, captured| {
        Box::pin(nic_attach::undo(world, captured))
    }),
    (
        nic_bandwidth::NAME,
        nic_bandwidth::parse,
        |world, captured| Box::pin(nic_bandwidth::undo(world, captured)),
    ),
    (nic_detach::NAME, nic_detach::parse, |world, captured| {
        Box::pin(nic_detach::undo(world, captured))
    }),
    (nic_link::NAME, nic_link::parse, |world, captured| {
        Box::pin(nic_link::undo(world, captured))
    }),
    (partition::NAME, partition::parse, |world, captured| {
        Box::pin(partition::undo(world, captured))
    }),
    (
        service_stop::NAME,
        service_stop::parse,
        |world, captured| Box::pin(service_stop::undo(world, captured)),
    ),
    (pod::NAME, pod::parse, |world, captured| {
        Box::pin(pod::undo(world, captured))
    }),
    (file_change::NAME, file_change::parse, |world, captured| {
        Box::pin(file_change::undo(world, captured))
    }),
    (net_emulate::NAME, net_emulate::parse, |world, captured| {
        Box::pin(net_emulate::undo(world, captured))
    }),
    (
        policy_route::NAME,
        policy_route::parse,
        |world, captured| Box::pin(policy_route::undo(world, captured)),
    ),
    (
        host_autostart::NAME,
        host_autostart::parse,
        |world, captured| Box::pin(host_autostart::undo(world, captured)),
    ),
    (host_power::NAME, host_power::parse, |world, captured| {
        Box::pin(host_power::undo(world, captured))
    }),
    (disk_fill::NAME, disk_fill::parse, |world, captured| {
        Box::pin(disk_fill::undo(world, captured))
    }),
    (
        disk_throttle::NAME,
        disk_throttle::parse,
        |world, captured| Box::pin(disk_throttle::undo(world, captured)),
    ),
    (
        instance_boot::NAME,
        instance_boot::parse,
        |world, captured| Box::pin(instance_boot::undo(world, captured)),
    ),
    (
        memory_balloon::NAME,
        memory_balloon::parse,
        |world, captured| Box::pin(memory_balloon::undo(world, captured)),
    ),
    (
        host_release::NAME,
        host_release::parse,
        |world, captured| Box::pin(host_release::undo(world, captured)),
    ),
    (
        instance_kill::NAME,
        instance_kill::parse,
        |world, captured| Box::pin(instance_kill::undo(world, captured)),
    ),
    (
        instance_fill::NAME,
        instance_fill::parse,
        |world, captured| Box::pin(instance_fill::undo(world, captured)),
    ),
    (
        instance_touch::NAME,
        instance_touch::parse,
        |world, captured| Box::pin(instance_touch::undo(world, captured)),
    ),
    (service_run::NAME, service_run::parse, |world, captured| {
        Box::pin(service_run::undo(world, captured))
    }),
];

/// Whether an action puts a host's disks aside, and others in their place.
pub fn puts_disks_aside(action: &str) -> bool {
    action == host_release::NAME
}

/// Actions whose undo sets what was captured, together with those that change the same; and by which argument one of a host's
/// is told from another.
const SETTERS: &[(&[&str], Option<&str>)] = &[
    (&[clock_step::NAME], None),
    (&[compute_reserve::NAME], None),
    (&[compute_resume::NAME], None),
    (&[default_route::NAME, nic_down::NAME], None),
    (&[disk_throttle::NAME], None),
    (&[dns::NAME], None),
    (&[file_change::NAME], Some("path")),
    (&[host_autostart::NAME], None),
    (&[host_power::NAME], None),
    (&[instance_kill::NAME], Some("instance")),
    (&[memory_balloon::NAME], None),
    (&[net_emulate::NAME], Some("nic")),
    (&[nic_bandwidth::NAME], Some("network")),
    (&[nic_link::NAME], Some("network")),
    (&[pod::NAME], None),
    (
        &[process_signal::NAME, service_run::NAME, service_stop::NAME],
        None,
    ),
];

/// Actions of which several stand beside one another on a host, each with a thing of its own. Of those that are in neither list
/// an earlier one waits for a later one.
const APART: &[&str] = &[
    disk_fill::NAME,
    host_release::NAME,
    instance_boot::NAME,
    instance_fill::NAME,
    instance_touch::NAME,
    nic_attach::NAME,
    nic_detach::NAME,
    policy_route::NAME,
    pressure::CPU,
    pressure::MEMORY,
];

/// Actions whose effect is in a guest's memory only: it has ended once the guest is off.
const IN_MEMORY: &[&str] = &[
    clock_step::NAME,
    default_route::NAME,
    net_emulate::NAME,
    nic_down::NAME,
    pod::NAME,
    policy_route::NAME,
    pressure::CPU,
    pressure::MEMORY,
    process_signal::NAME,
];

/// An act on a host, as [`stands_on`] looks at it.
pub(super) struct Done<'a> {
    /// The action.
    pub(super) action: &'a str,
    /// What was captured.
    pub(super) captured: &'a serde_json::Value,
    /// Whether it was done to this machine rather than inside the host.
    pub(super) outside: bool,
}

/// Whether two acts on one host set the same.
fn set_the_same(one: &Done<'_>, other: &Done<'_>) -> bool {
    let mut known = SETTERS
        .iter()
        .filter(|(actions, _)| actions.contains(&one.action))
        .peekable();
    if known.peek().is_none() {
        return one.action == other.action && !APART.contains(&one.action);
    }
    known.any(|(actions, key)| {
        let same = key.is_none_or(|key| one.captured[key] == other.captured[key]);
        actions.contains(&other.action) && same
    })
}

/// Whether a later act on a host captured what an earlier one on it has changed, or took away what its undo needs: then the
/// earlier one is put back after it.
pub(super) fn stands_on(later: &Done<'_>, earlier: &Done<'_>) -> bool {
    if set_the_same(later, earlier) {
        return true;
    }
    match later.action {
        host_release::NAME => !earlier.outside,
        // It starts what ran.
        host_power::NAME => [
            clock_step::NAME,
            instance_boot::NAME,
            instance_fill::NAME,
            instance_kill::NAME,
            process_signal::NAME,
            service_run::NAME,
            service_stop::NAME,
        ]
        .contains(&earlier.action),
        nic_detach::NAME => !earlier.outside || earlier.action == nic_link::NAME,
        // It captured the routes of all tables.
        nic_down::NAME => [nic_attach::NAME, policy_route::NAME].contains(&earlier.action),
        // They may be about the interface that was plugged in.
        default_route::NAME | net_emulate::NAME | pod::NAME | policy_route::NAME => {
            earlier.action == nic_attach::NAME
        }
        _ => false,
    }
}

/// Whether an earlier act on a host is put back only after a later one on it.
pub(super) fn follows(later: &Done<'_>, earlier: &Done<'_>) -> bool {
    // Whether a domain starts with the machine is libvirt's to know, whatever the domain does.
    earlier.action != host_autostart::NAME || stands_on(later, earlier)
}

/// The names of all actions, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = ALL.iter().map(|(name, _, _)| *name).collect();
    names.sort_unstable();
    names
}

/// The arguments of all actions, by name.
pub(super) fn arguments() -> Vec<(&'static str, Keys)> {
    let of = |parse: &ParseFn| keys_of(|node, reader| drop(parse(node, reader)));
    ALL.iter()
        .map(|(name, parse, _)| (*name, of(parse)))
        .collect()
}

/// Reads an action from a file.
pub(super) fn parse(key: &Key, arguments: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    if let Some((_, parse, _)) = ALL.iter().find(|(name, _, _)| *name == key.text) {
        return parse(arguments, reader);
    }
    let known = names();
    let near = nearest(&key.text, known.iter().copied());
    reader.wrong(
        ScenarioProblem::UnknownAction {
            name: key.text.clone(),
            near,
            known,
        }
        .at(key.span),
    );
    None
}

/// Undoes an action from what the journal has of it; returns what was done.
pub(super) async fn undo(
    world: &World,
    action: &str,
    captured: &str,
) -> Result<String, ActionError> {
    let Some((_, _, undo)) = ALL.iter().find(|(name, _, _)| *name == action) else {
        return Err(ActionError::Target(format!(
            "this twin has no action {action}; use the one that made the run"
        )));
    };
    let captured: serde_json::Value = serde_json::from_str(captured)?;
    if IN_MEMORY.contains(&action)
        && let Some(host) = captured["host"].as_str()
        && gone_with_its_memory(world, host).await?
    {
        return Ok(format!("it ended when {host} went off"));
    }
    undo(world, captured).await
}

/// Whether a host is off, and nothing holds what was in its memory.
async fn gone_with_its_memory(world: &World, host: &str) -> Result<bool, ActionError> {
    let anatomy = world
        .drivers
        .hypervisor
        .anatomy(world.target(host)?)
        .await?;
    Ok(anatomy.power == Power::ShutOff && !anatomy.process && !anatomy.saved)
}

/// Undoes what an action has done to this machine, and leaves what it did inside a host to a baseline.
pub(super) async fn undo_outside(
    world: &World,
    action: &str,
    captured: &str,
) -> Result<String, ActionError> {
    if action == nic_detach::NAME {
        return nic_detach::undo_outside(world, serde_json::from_str(captured)?).await;
    }
    undo(world, action, captured).await
}

/// Puts back what an action did to files of this machine, where nothing that libvirt knows runs; returns what was done. The
/// rest of it is still open.
pub(super) fn files_back(action: &str, captured: &str) -> Result<Option<String>, ActionError> {
    if action != host_release::NAME {
        return Ok(None);
    }
    host_release::disks_back(serde_json::from_str(captured)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_nobody_has_thought_of_is_put_back_in_order() {
        let captured = serde_json::json!({"host": "a"});
        let done = |action| Done {
            action,
            captured: &captured,
            outside: false,
        };
        let follows = |earlier, later| stands_on(&done(later), &done(earlier));
        assert!(follows("new-one", "new-one") && !follows("new-one", "other"));
        assert!(!follows(pressure::CPU, pressure::CPU));
        assert!(follows(policy_route::NAME, nic_down::NAME));
        assert!(!follows(nic_down::NAME, policy_route::NAME));
        let known = names();
        let listed = SETTERS
            .iter()
            .flat_map(|(actions, _)| *actions)
            .chain(APART)
            .chain(IN_MEMORY);
        let unknown: Vec<_> = listed.filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
