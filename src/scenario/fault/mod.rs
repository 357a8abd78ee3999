//! What can be done to a lab. One file a fault, and a line in the list of its folder.

mod compute;
mod contract;
mod guest;
mod host;
mod net;
mod nic;
mod prelude;
mod storage;

pub use contract::{AnyFault, Captured, Effectiveness};

pub(super) use compute::{allocated, flavor, instance, inventory};
pub(super) use guest::{CLOCK_STEP, before_a_pause, inside, processes};
pub(super) use host::HOST_AUTOSTART;
pub(super) use net::POD_TABLE;

use contract::Kind;

use schemars::SchemaGenerator;

use super::arguments::Arguments;
use super::error::ScenarioProblem;
use super::footprint::Footprint;
use super::{FaultError, World};
use crate::diagnostics::{Key, Node, Reader, nearest};
use crate::hypervisor::Power;

/// All faults, by what they are about.
const ALL: [&[Kind]; 6] = [
    compute::FAULTS,
    guest::FAULTS,
    host::FAULTS,
    net::FAULTS,
    nic::FAULTS,
    storage::FAULTS,
];

fn all() -> impl Iterator<Item = &'static Kind> {
    ALL.into_iter().flatten()
}

fn kind(name: &str) -> Option<&'static Kind> {
    all().find(|kind| kind.name == name)
}

fn known(name: &str) -> Result<&'static Kind, FaultError> {
    let unknown = || {
        FaultError::Target(format!(
            "this twin has no fault {name}; use the one that made the run"
        ))
    };
    kind(name).ok_or_else(unknown)
}

/// The footprint of a fault, from what the journal has of it. One that this twin cannot read is reverted in its order.
pub(super) fn footprint(name: &str, captured: &Captured, outside: bool) -> Footprint {
    let read = kind(name).and_then(|kind| (kind.footprint)(captured).ok());
    read.unwrap_or_else(|| Footprint::unknown(name, captured["host"].as_str(), outside))
}

/// Whether a fault put a host's disks aside, and others in their place. One whose record cannot be read may have, where its kind
/// does: data is at stake.
pub fn puts_disks_aside(name: &str, captured: &str) -> bool {
    let captured: Captured = serde_json::from_str(captured).unwrap_or_default();
    let read = kind(name).map(|kind| (kind.footprint)(&captured));
    match read {
        Some(Ok(footprint)) => footprint.puts_disks_aside(),
        Some(Err(_)) => name == host::HOST_RELEASE,
        None => false,
    }
}

/// What the revert of a fault does, as a sentence.
pub fn describe_revert(name: &str, captured: &Captured) -> Result<String, FaultError> {
    (known(name)?.describe)(captured)
}

/// The names of all faults, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = all().map(|kind| kind.name).collect();
    names.sort_unstable();
    names
}

/// What each fault's arguments are, sorted by its name.
pub(super) fn arguments(generator: &mut SchemaGenerator) -> Vec<Arguments> {
    let of = |kind: &Kind| Arguments {
        name: kind.name,
        keys: (kind.keys)(),
        schema: (kind.schema)(generator),
    };
    let mut all: Vec<Arguments> = all().map(of).collect();
    all.sort_unstable_by_key(|one| one.name);
    all
}

/// Reads a fault from a file.
pub(super) fn parse(key: &Key, arguments: &Node, reader: &mut Reader) -> Option<AnyFault> {
    if let Some(kind) = kind(&key.text) {
        return (kind.read)(arguments, reader);
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

/// A fault by its name, with its arguments as a scenario file has them.
pub fn from_value(name: &str, arguments: serde_json::Value) -> Result<AnyFault, FaultError> {
    (known(name)?.from_value)(arguments)
}

/// Reverts a fault from what the journal has of it; returns what was done.
pub(super) async fn revert(
    world: &World,
    name: &str,
    captured: &str,
) -> Result<String, FaultError> {
    let kind = known(name)?;
    let captured: Captured = serde_json::from_str(captured)?;
    let footprint = (kind.footprint)(&captured)?;
    if footprint.is_in_memory()
        && let [host] = footprint.hosts().as_slice()
        && gone_with_its_memory(world, host).await?
    {
        return Ok(format!("it ended when {host} went off"));
    }
    (kind.revert)(world, &captured).await
}

/// Whether a host is off, and nothing holds what was in its memory.
async fn gone_with_its_memory(world: &World, host: &str) -> Result<bool, FaultError> {
    let target = world.target(host)?;
    let anatomy = world.drivers.hypervisor.inspection.anatomy(target).await?;
    Ok(anatomy.power == Power::ShutOff && !anatomy.process && !anatomy.saved)
}

/// Reverts what a fault has done to this machine, and leaves what it did inside a host to a baseline.
pub(super) async fn revert_outside(
    world: &World,
    name: &str,
    captured: &str,
) -> Result<String, FaultError> {
    let captured: Captured = serde_json::from_str(captured)?;
    (known(name)?.revert_outside)(world, &captured).await
}

/// Reverts what a fault did to files of this machine, where nothing that libvirt knows runs; returns what was done. The rest of
/// it is still open.
pub(super) fn revert_files(name: &str, captured: &str) -> Result<Option<String>, FaultError> {
    let Some(kind) = kind(name) else {
        return Ok(None);
    };
    (kind.revert_files)(&serde_json::from_str(captured)?)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What journals have of each fault, as twins have written it: any later twin has to read it.
    pub(in crate::scenario) const PRIORS: &[(&str, &str)] = &[
        ("clock-step", r#"{"host":"a","behind_us":1500}"#),
        ("compute-reserve", r#"{"host":"a","reserved_mib":512}"#),
        ("compute-resume", r#"{"host":"a","resume":true}"#),
        ("cpu-pressure", r#"{"host":"a","process":"load-1"}"#),
        (
            "default-route",
            r#"{"host":"a","routes":["default via 10.0.0.1 dev eth0"]}"#,
        ),
        ("disk-fill", r#"{"host":"a","file":"/var/.filled-1"}"#),
        (
            "disk-throttle",
            r#"{"host":"a","throttle":{"bytes":0,"operations":0}}"#,
        ),
        ("dns", r#"{"host":"a"}"#),
        (
            "file-change",
            r#"{"host":"a","path":"/p","was":{"content":"aGk=","owner":"644 0:0"}}"#,
        ),
        ("forward-policy", r#"{"chain":"fwd_1"}"#),
        ("host-autostart", r#"{"host":"a","autostart":true}"#),
        (
            "host-power",
            r#"{"host":"a","power":"running","boot":"b","services":["s"],"instances":["i"]}"#,
        ),
        (
            "host-release",
            r#"{"host":"a","power":"running","boot":null,"services":[],"instances":[],
                "disks":[{"path":"/d","aside":"/d.released-1","inode":7}]}"#,
        ),
        (
            "instance-boot",
            r#"{"host":"a","name":"i","flavor_mib":512,"refusal":null}"#,
        ),
        (
            "instance-fill",
            r#"{"host":"a","flavor_mib":512,"names":["i"],"refusal":"full"}"#,
        ),
        ("instance-kill", r#"{"host":"a","instance":"i","pid":7}"#),
        (
            "instance-touch",
            r#"{"host":"a","running":[["i",false]],"oom_kill":0,"rss_kib":1}"#,
        ),
        ("memory-balloon", r#"{"host":"a","memory_mib":512}"#),
        ("memory-pressure", r#"{"host":"a","process":"load-2"}"#),
        ("net-emulate", r#"{"host":"a","nic":"n"}"#),
        (
            "nic-attach",
            r#"{"host":"a","network":"m","mac":"52:54:00:00:00:01"}"#,
        ),
        (
            "nic-bandwidth",
            r#"{"host":"a","network":"m","kbit":100,"was":{"unlimited":{"queue":true}}}"#,
        ),
        (
            "nic-detach",
            r#"{"host":"a","network":"m","was":"up","mac":"52:54:00:00:00:01","nic":"n","up":true,
                "addresses":["10.0.0.2/24"],"routes":["10.1.0.0/16 via 10.0.0.1"]}"#,
        ),
        (
            "nic-down",
            r#"{"host":"a","nic":"n","up":true,"routes":[]}"#,
        ),
        ("nic-link", r#"{"host":"a","network":"m","was":"up"}"#),
        ("partition", r#"{"chain":"cut_1"}"#),
        (
            "pod",
            r#"{"host":"a","name":"p","settings":{"net/ipv4/ip_forward":"0"},"namespaces":true}"#,
        ),
        (
            "policy-route",
            r#"{"host":"a","from":"10.0.0.2","via":"10.0.0.1","nic":"n","table":100}"#,
        ),
        (
            "process-signal",
            r#"{"host":"a","pids":[7],"services":["s"],"instances":[]}"#,
        ),
        ("route-blackhole", r#"{"host":"a","to":"10.9.0.0/24"}"#),
        (
            "service-run",
            r#"{"host":"a","wanted":["s"],"all":["s","t"]}"#,
        ),
        ("service-stop", r#"{"host":"a","wanted":["s"]}"#),
    ];

    /// Each fault's arguments, as a scenario file has them.
    const ARGUMENTS: &[(&str, &str)] = &[
        ("clock-step", "{host: a, by: -5m}"),
        ("compute-reserve", "{host: a, memory: 6GiB}"),
        ("compute-resume", "{host: a, resume: on}"),
        ("cpu-pressure", "{host: a, cpus: 2}"),
        ("default-route", "{host: a, via: 10.0.0.1, nic: eth1}"),
        ("disk-fill", "{host: a, leave: 10MiB}"),
        ("disk-throttle", "{host: a, rate: 1MiB}"),
        ("dns", "{host: a, server: 10.0.0.1, is: silent}"),
        (
            "file-change",
            "{host: a, path: /etc/motd, content: \"a: b # c\\n\"}",
        ),
        (
            "forward-policy",
            "{from: metal, to: provider, policy: refuse}",
        ),
        ("host-autostart", "{host: a, autostart: off}"),
        ("host-power", "{host: a, power: kill}"),
        ("host-release", "{host: a}"),
        ("instance-boot", "{host: a, flavor: m1, name: i}"),
        ("instance-fill", "{host: a, flavor: m1}"),
        ("instance-kill", "{host: a, instance: i}"),
        ("instance-touch", "{host: a}"),
        ("memory-balloon", "{host: a, memory: 512MiB}"),
        ("memory-pressure", "{host: a, memory: 512MiB}"),
        (
            "net-emulate",
            "{host: a, nic: eth0, delay: 200ms, loss: 1.5%, rate-kbit: 512}",
        ),
        ("nic-attach", "{host: a, network: metal, address: 10.0.0.9}"),
        ("nic-bandwidth", "{host: a, network: metal, rate-kbit: 512}"),
        ("nic-detach", "{host: a, network: metal}"),
        ("nic-down", "{host: a, nic: eth0}"),
        ("nic-link", "{host: a, network: metal}"),
        ("partition", "{between: [a], and: [b, c]}"),
        (
            "pod",
            "{host: a, name: p, subnet: 10.9.0.0/24, nics: [eth0, eth1]}",
        ),
        (
            "policy-route",
            "{host: a, from: 10.0.0.2, via: 10.0.0.1, nic: eth0, table: 100}",
        ),
        ("process-signal", "{host: a, process: mysqld, signal: stop}"),
        ("route-blackhole", "{host: a, to: 10.9.0.0/24}"),
        ("service-run", "{host: a, services: all}"),
        ("service-stop", "{host: a, service: mysqld}"),
    ];

    /// Each of these later faults captured what those earlier ones have changed, or took away what their reverts need; of all
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
        ("route-blackhole", &["="]),
        ("service-run", &["=", "process-signal", "service-stop"]),
        ("service-stop", &["=", "process-signal", "service-run"]),
    ];

    /// Faults that are done to this machine.
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

    /// What the journal has of a fault, with some keys changed.
    pub(in crate::scenario) fn captured(name: &str, changed: &Value) -> Value {
        let (_, text) = PRIORS
            .iter()
            .find(|(known, _)| *known == name)
            .expect("PRIORS has it");
        let mut captured: Value = serde_json::from_str(text).expect(name);
        for (key, value) in changed.as_object().expect("a mapping") {
            if captured.get(key).is_some() {
                captured[key] = value.clone();
            }
        }
        captured
    }

    fn footprint_of(name: &str, changed: &Value) -> Footprint {
        footprint(name, &captured(name, changed), OUTSIDE.contains(&name))
    }

    fn read(name: &str, arguments: &Node) -> AnyFault {
        let key = Key {
            span: arguments.span,
            text: name.to_owned(),
        };
        let mut reader = Reader::default();
        let fault = parse(&key, arguments, &mut reader);
        fault.unwrap_or_else(|| panic!("{name}: {:?}", reader.problems))
    }

    #[test]
    fn faults_are_reverted_in_the_order_of_their_footprints() {
        let of = |name: &str| footprint_of(name, &json!({}));
        let named: Vec<&str> = STANDS_ON.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, names(), "STANDS_ON lists all faults, by name");
        // Of these two the priors name no host.
        let machine = |name: &str| ["forward-policy", "partition"].contains(&name);
        for (later, on) in STANDS_ON {
            for earlier in names() {
                let inside = on.contains(&"inside") && !OUTSIDE.contains(&earlier);
                let own = on.contains(&"=") && earlier == *later;
                let expected = inside || own || on.contains(&earlier);
                let expected = expected && machine(later) == machine(earlier);
                assert_eq!(
                    of(later).stands_on(&of(earlier)),
                    expected,
                    "{later} on {earlier}"
                );
            }
        }
        // About another file, interface, network, instance or host.
        for (name, other) in [
            ("file-change", json!({"path": "/q"})),
            ("net-emulate", json!({"nic": "o"})),
            ("nic-bandwidth", json!({"network": "o"})),
            ("nic-link", json!({"network": "o"})),
            ("instance-kill", json!({"instance": "j"})),
            ("clock-step", json!({"host": "b"})),
        ] {
            assert!(!of(name).stands_on(&footprint_of(name, &other)), "{name}");
        }
    }

    #[test]
    fn a_fault_that_this_twin_does_not_know_is_reverted_in_order() {
        let captured = json!({"host": "a"});
        let of = |name| footprint(name, &captured, false);
        assert!(of("new-one").stands_on(&of("new-one")) && !of("new-one").stands_on(&of("other")));
        let release = footprint_of("host-release", &json!({}));
        assert!(release.stands_on(&of("new-one")));
        assert!(!release.stands_on(&footprint("new-one", &captured, true)));
        // Nor one whose record it cannot read.
        let unread = footprint("host-power", &captured, false);
        assert!(unread.hosts() == ["a"] && release.stands_on(&unread));
    }

    #[test]
    fn what_ends_with_a_guests_memory_and_what_is_this_machines_follows_from_the_footprint() {
        let of = |is: fn(&Footprint) -> bool| -> Vec<&str> {
            let mut all = names();
            all.retain(|name| is(&footprint_of(name, &json!({}))));
            all
        };
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
            "route-blackhole",
        ];
        assert_eq!(of(Footprint::is_in_memory), expected, "the list above");
        assert_eq!(of(Footprint::is_outside), OUTSIDE);
        assert_eq!(of(Footprint::puts_disks_aside), ["host-release"]);
        assert_eq!(of(Footprint::is_apart), ["host-autostart"]);
    }

    #[test]
    fn a_fault_is_a_value_that_is_read_and_written_as_the_file_has_it() {
        let named: Vec<&str> = ARGUMENTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, names(), "ARGUMENTS lists all faults, by name");
        for (name, text) in ARGUMENTS {
            let node = crate::diagnostics::parse(0, text).expect(name);
            let fault = read(name, &node);
            let written = fault.arguments();
            let again = from_value(name, written.clone()).expect(name);
            assert_eq!(again, fault, "{name}: {written}");
            // JSON is YAML.
            let node = crate::diagnostics::parse(0, &written.to_string()).expect(name);
            assert_eq!(read(name, &node), fault, "{name}: {written}");
            // The arguments and the prior state are about the same.
            let prior = footprint_of(name, &written);
            let own = fault.footprint();
            assert_eq!(own.is_outside(), prior.is_outside(), "{name}");
            assert_eq!(own.is_in_memory(), prior.is_in_memory(), "{name}");
            let expected: &[&str] = match *name {
                "partition" => &["a", "b", "c"],
                "forward-policy" => &[],
                _ => &["a"],
            };
            assert_eq!(own.hosts(), expected, "{name}");
        }
    }

    #[test]
    fn a_revert_is_told_of_as_a_sentence() {
        let named: Vec<&str> = PRIORS.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, names(), "PRIORS lists all faults, by name");
        for (name, text) in PRIORS {
            let captured = serde_json::from_str(text).expect(name);
            let told = describe_revert(name, &captured).expect(name);
            let first = told.chars().next().expect(name);
            assert!(
                first.is_lowercase() && told.contains(' ') && !told.contains('{'),
                "{name}: {told}"
            );
        }
    }
}
