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
use super::footprint::Footprint;
use super::{ActionError, World};
use crate::diagnostics::{Key, Keys, Node, Reader, keys_of, nearest};
use crate::hypervisor::Power;

type ParseFn = fn(&Node, &mut Reader) -> Option<Box<dyn Action>>;
type UndoFuture<'u> =
    std::pin::Pin<Box<dyn Future<Output = Result<String, ActionError>> + Send + 'u>>;
type FootprintFn = fn(&serde_json::Value) -> Footprint;
type UndoFn = for<'u> fn(&'u World, serde_json::Value) -> UndoFuture<'u>;

/// The actions: name, parser, undo, footprint.
const ALL: &[(&str, ParseFn, UndoFn, FootprintFn)] = &[
    (
        compute_reserve::NAME,
        compute_reserve::parse,
        |world, captured| Box::pin(compute_reserve::undo(world, captured)),
        compute_reserve::footprint,
    ),
    (
        compute_resume::NAME,
        compute_resume::parse,
        |world, captured| Box::pin(compute_resume::undo(world, captured)),
        compute_resume::footprint,
    ),
    (
        default_route::NAME,
        default_route::parse,
        |world, captured| Box::pin(default_route::undo(world, captured)),
        default_route::footprint,
    ),
    (
        nic_down::NAME,
        nic_down::parse,
        |world, captured| Box::pin(nic_down::undo(world, captured)),
        nic_down::footprint,
    ),
    (
        process_signal::NAME,
        process_signal::parse,
        |world, captured| Box::pin(process_signal::undo(world, captured)),
        process_signal::footprint,
    ),
    (
        pressure::MEMORY,
        pressure::parse_memory,
        |world, captured| Box::pin(pressure::undo(world, captured)),
        pressure::footprint,
    ),
    (
        pressure::CPU,
        pressure::parse_cpu,
        |world, captured| Box::pin(pressure::undo(world, captured)),
        pressure::footprint,
    ),
    (
        clock_step::NAME,
        clock_step::parse,
        |world, captured| Box::pin(clock_step::undo(world, captured)),
        clock_step::footprint,
    ),
    (
        dns::NAME,
        dns::parse,
        |world, captured| Box::pin(dns::undo(world, captured)),
        dns::footprint,
    ),
    (
        forward_policy::NAME,
        forward_policy::parse,
        |world, captured| Box::pin(forward_policy::undo(world, captured)),
        forward_policy::footprint,
    ),
    (
        nic_attach::NAME,
        nic_attach::parse,
        |world, captured| Box::pin(nic_attach::undo(world, captured)),
        nic_attach::footprint,
    ),
    (
        nic_bandwidth::NAME,
        nic_bandwidth::parse,
        |world, captured| Box::pin(nic_bandwidth::undo(world, captured)),
        nic_bandwidth::footprint,
    ),
    (
        nic_detach::NAME,
        nic_detach::parse,
        |world, captured| Box::pin(nic_detach::undo(world, captured)),
        nic_detach::footprint,
    ),
    (
        nic_link::NAME,
        nic_link::parse,
        |world, captured| Box::pin(nic_link::undo(world, captured)),
        nic_link::footprint,
    ),
    (
        partition::NAME,
        partition::parse,
        |world, captured| Box::pin(partition::undo(world, captured)),
        partition::footprint,
    ),
    (
        service_stop::NAME,
        service_stop::parse,
        |world, captured| Box::pin(service_stop::undo(world, captured)),
        service_stop::footprint,
    ),
    (
        pod::NAME,
        pod::parse,
        |world, captured| Box::pin(pod::undo(world, captured)),
        pod::footprint,
    ),
    (
        file_change::NAME,
        file_change::parse,
        |world, captured| Box::pin(file_change::undo(world, captured)),
        file_change::footprint,
    ),
    (
        net_emulate::NAME,
        net_emulate::parse,
        |world, captured| Box::pin(net_emulate::undo(world, captured)),
        net_emulate::footprint,
    ),
    (
        policy_route::NAME,
        policy_route::parse,
        |world, captured| Box::pin(policy_route::undo(world, captured)),
        policy_route::footprint,
    ),
    (
        host_autostart::NAME,
        host_autostart::parse,
        |world, captured| Box::pin(host_autostart::undo(world, captured)),
        host_autostart::footprint,
    ),
    (
        host_power::NAME,
        host_power::parse,
        |world, captured| Box::pin(host_power::undo(world, captured)),
        host_power::footprint,
    ),
    (
        disk_fill::NAME,
        disk_fill::parse,
        |world, captured| Box::pin(disk_fill::undo(world, captured)),
        disk_fill::footprint,
    ),
    (
        disk_throttle::NAME,
        disk_throttle::parse,
        |world, captured| Box::pin(disk_throttle::undo(world, captured)),
        disk_throttle::footprint,
    ),
    (
        instance_boot::NAME,
        instance_boot::parse,
        |world, captured| Box::pin(instance_boot::undo(world, captured)),
        instance_boot::footprint,
    ),
    (
        memory_balloon::NAME,
        memory_balloon::parse,
        |world, captured| Box::pin(memory_balloon::undo(world, captured)),
        memory_balloon::footprint,
    ),
    (
        host_release::NAME,
        host_release::parse,
        |world, captured| Box::pin(host_release::undo(world, captured)),
        host_release::footprint,
    ),
    (
        instance_kill::NAME,
        instance_kill::parse,
        |world, captured| Box::pin(instance_kill::undo(world, captured)),
        instance_kill::footprint,
    ),
    (
        instance_fill::NAME,
        instance_fill::parse,
        |world, captured| Box::pin(instance_fill::undo(world, captured)),
        instance_fill::footprint,
    ),
    (
        instance_touch::NAME,
        instance_touch::parse,
        |world, captured| Box::pin(instance_touch::undo(world, captured)),
        instance_touch::footprint,
    ),
    (
        service_run::NAME,
        service_run::parse,
        |world, captured| Box::pin(service_run::undo(world, captured)),
        service_run::footprint,
    ),
];

/// The footprint of an act, from what the journal has of it.
pub(super) fn footprint(action: &str, captured: &serde_json::Value, outside: bool) -> Footprint {
    let known = ALL.iter().find(|(name, ..)| *name == action);
    known.map_or_else(
        || Footprint::unknown(action, outside),
        |(.., footprint)| footprint(captured),
    )
}

/// Whether an act puts a host's disks aside, and others in their place.
pub fn puts_disks_aside(action: &str) -> bool {
    footprint(action, &serde_json::Value::Null, true).puts_disks_aside()
}

/// The names of all actions, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = ALL.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    names
}

/// The arguments of all actions, by name.
pub(super) fn arguments() -> Vec<(&'static str, Keys)> {
    let of = |parse: &ParseFn| keys_of(|node, reader| drop(parse(node, reader)));
    ALL.iter()
        .map(|(name, parse, ..)| (*name, of(parse)))
        .collect()
}

/// Reads an action from a file.
pub(super) fn parse(key: &Key, arguments: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    if let Some((_, parse, ..)) = ALL.iter().find(|(name, ..)| *name == key.text) {
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
    let Some((_, _, undo, footprint)) = ALL.iter().find(|(name, ..)| *name == action) else {
        return Err(ActionError::Target(format!(
            "this twin has no action {action}; use the one that made the run"
        )));
    };
    let captured: serde_json::Value = serde_json::from_str(captured)?;
    if footprint(&captured).is_in_memory()
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

    /// Each of these later acts captured what those earlier ones have changed, or took away what their reverts need; of all
    /// others none did. `=`: of itself too, where both are about the same.
    const STANDS_ON: &[(&str, &[&str])] = &[
        ("clock-step", &["="]),
        ("compute-reserve", &["="]),
        ("compute-resume", &["="]),
        ("cpu-pressure", &[]),
        ("default-route", &["=", "nic-attach", "nic-down"]),
        ("disk-fill", &[]),
        ("disk-throttle", &["="]),
        ("dns", &["="]),
        ("file-change", &["="]),
        ("forward-policy", &["="]),
        ("host-autostart", &["="]),
        (
            "host-power",
            &[
                "=",
                "clock-step",
                "instance-boot",
                "instance-fill",
                "instance-kill",
                "process-signal",
                "service-run",
                "service-stop",
            ],
        ),
        ("host-release", &["inside"]),
        ("instance-boot", &[]),
        ("instance-fill", &[]),
        ("instance-kill", &["="]),
        ("instance-touch", &[]),
        ("memory-balloon", &["="]),
        ("memory-pressure", &[]),
        ("net-emulate", &["=", "nic-attach"]),
        ("nic-attach", &[]),
        ("nic-bandwidth", &["="]),
        ("nic-detach", &["inside", "nic-link"]),
        (
            "nic-down",
            &["=", "default-route", "nic-attach", "policy-route"],
        ),
        ("nic-link", &["="]),
        ("partition", &["="]),
        ("pod", &["=", "nic-attach"]),
        ("policy-route", &["nic-attach"]),
        ("process-signal", &["=", "service-run", "service-stop"]),
        ("service-run", &["=", "process-signal", "service-stop"]),
        ("service-stop", &["=", "process-signal", "service-run"]),
    ];

    /// Acts that are done to this machine.
    const OUTSIDE: &[&str] = &[
        "disk-throttle",
        "forward-policy",
        "host-autostart",
        "host-release",
        "memory-balloon",
        "nic-attach",
        "nic-bandwidth",
        "nic-detach",
        "nic-link",
        "partition",
    ];

    #[test]
    fn acts_are_reverted_in_the_order_of_their_footprints() {
        let captured = serde_json::json!({"host": "a", "path": "/p", "nic": "n", "network": "m", "instance": "i"});
        let of = |action: &str| footprint(action, &captured, OUTSIDE.contains(&action));
        let named: Vec<&str> = STANDS_ON.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, names());
        for (later, on) in STANDS_ON {
            for earlier in names() {
                let inside = on.contains(&"inside") && !OUTSIDE.contains(&earlier);
                let own = on.contains(&"=") && earlier == *later;
                let expected = inside || own || on.contains(&earlier);
                assert_eq!(
                    of(later).stands_on(&of(earlier)),
                    expected,
                    "{later} on {earlier}"
                );
            }
        }
        // About another file, interface, network or instance.
        let other = serde_json::json!({"host": "a", "path": "/q", "nic": "o", "network": "o", "instance": "j"});
        for action in [
            "file-change",
            "net-emulate",
            "nic-bandwidth",
            "nic-link",
            "instance-kill",
        ] {
            let theirs = footprint(action, &other, OUTSIDE.contains(&action));
            assert!(!of(action).stands_on(&theirs), "{action}");
        }
    }

    #[test]
    fn an_action_that_this_twin_does_not_know_is_put_back_in_order() {
        let null = serde_json::Value::Null;
        let of = |action| footprint(action, &null, false);
        assert!(of("new-one").stands_on(&of("new-one")) && !of("new-one").stands_on(&of("other")));
        assert!(of(host_release::NAME).stands_on(&of("new-one")));
        let outside = footprint("new-one", &null, true);
        assert!(!of(host_release::NAME).stands_on(&outside));
    }

    #[test]
    fn what_ends_with_a_guests_memory_and_what_is_this_machines_is_told_by_the_footprint() {
        let null = serde_json::Value::Null;
        let all = names().into_iter();
        let in_memory: Vec<&str> = all
            .filter(|action| footprint(action, &null, false).is_in_memory())
            .collect();
        let expected = [
            "clock-step",
            "cpu-pressure",
            "default-route",
            "memory-pressure",
            "net-emulate",
            "nic-down",
            "pod",
            "policy-route",
            "process-signal",
        ];
        assert_eq!(in_memory, expected);
        let all = names().into_iter();
        let outside: Vec<&str> = all
            .filter(|action| footprint(action, &null, false).is_outside())
            .collect();
        assert_eq!(outside, OUTSIDE);
        let all = names().into_iter();
        let aside: Vec<&str> = all.filter(|action| puts_disks_aside(action)).collect();
        assert_eq!(aside, [host_release::NAME]);
    }
}
