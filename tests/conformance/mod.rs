//! What every hypervisor driver has to do. The claims are checked one after the other on one network and one domain.

mod captures;
pub(crate) mod seams;

use std::path::Path;
use std::process::Command;

use twin::hypervisor::{
    Hypervisor, HypervisorError, NicState, ObservedDomain, ObservedNetwork, Power, PowerAction,
    Target,
};
use twin::model::spec::{Boot, DiskSpec, DomainSpec, Marked, NetworkSpec, NicLink, NicSpec};
use twin::model::{AcceleratorChoice, Dhcp, LabRecord, Mark, NetworkMode, RamBacking, Scale};
use twin::units::{Mac, Mib};
use uuid::Uuid;

/// How far a driver can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All of it.
    Full,
    /// A driver that has no memory in files.
    WithoutFiles,
    /// A driver that can neither reset nor capture.
    PowerOnly,
}

fn record() -> LabRecord {
    LabRecord {
        uuid: Uuid::new_v4(),
        name: "twin-conformance".parse().expect("a name"),
        topology: "conformance".parse().expect("a name"),
        scale: Scale::FULL,
        accelerator: AcceleratorChoice::Tcg,
        shift: 0,
        time_scale: 10,
        state: None,
    }
}

fn marked<S: serde::Serialize>(lab: &LabRecord, thing: &str, spec: S) -> Marked<S> {
    let mark = Mark {
        lab: lab.clone(),
        thing: thing.parse().expect("a name"),
        spec: serde_json::to_value(&spec).expect("JSON"),
    };
    Marked { spec, mark }
}

fn network(lab: &LabRecord) -> Marked<NetworkSpec> {
    let spec = NetworkSpec {
        name: "twin-conformance-net".into(),
        uuid: Uuid::new_v5(&lab.uuid, b"net"),
        bridge: "twconf0".into(),
        mode: NetworkMode::Isolated,
        cidr: "10.199.7.0/24".parse().expect("a network"),
        gateway: Some([10, 199, 7, 1].into()),
        dhcp: Dhcp::None,
        leases: Vec::new(),
        autostart: false,
    };
    marked(lab, "net", spec)
}

/// A disk that is there and empty.
fn disk(directory: &Path) -> DiskSpec {
    let path = directory.join("conformance.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("16M")
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "qemu-img makes a disk"
    );
    DiskSpec {
        path,
        backing: None,
        size: Mib(16),
        scratch: false,
    }
}

fn domain(lab: &LabRecord, directory: &Path) -> Marked<DomainSpec> {
    let spec = DomainSpec {
        name: "twin-conformance-host".into(),
        uuid: Uuid::new_v5(&lab.uuid, b"host"),
        memory: Mib(64),
        vcpus: 1,
        accelerator: AcceleratorChoice::Tcg,
        ram: RamBacking::Anon,
        boot: Boot::Network,
        disks: vec![disk(directory)],
        seed_iso: None,
        nics: vec![NicSpec {
            mac: Mac([0x52, 0x54, 0, 0xfe, 0, 1]),
            link: NicLink::Network("twin-conformance-net".into()),
        }],
        channel: directory.join("guest.sock"),
        serial_log: directory.join("serial.log"),
        config: None,
        autostart: false,
    };
    marked(lab, "host", spec)
}

async fn found_domain(hypervisor: &Hypervisor, uuid: Uuid) -> Option<ObservedDomain> {
    let domains = hypervisor.inventory.domains().await.expect("listed");
    domains.into_iter().find(|domain| domain.uuid == uuid)
}

async fn found_network(hypervisor: &Hypervisor, uuid: Uuid) -> Option<ObservedNetwork> {
    let networks = hypervisor.inventory.networks().await.expect("listed");
    networks.into_iter().find(|network| network.uuid == uuid)
}

/// Checks a driver. `directory` can be read by the hypervisor's guests.
pub(crate) async fn keeps_the_contract(hypervisor: Hypervisor, directory: &Path, depth: Depth) {
    let hypervisor = &hypervisor;
    let lab = record();
    let machine = hypervisor.inventory.machine().await.expect("a machine");
    assert!(machine.cpus > 0 && machine.memory > Mib(0));
    let again = hypervisor.inventory.machine().await.expect("a machine");
    assert_eq!(machine.uuid, again.uuid, "a machine's identity lasts");

    let network = network(&lab);
    let net = Target {
        uuid: network.spec.uuid,
        lab: lab.uuid,
    };
    networks(hypervisor, &network, net).await;

    let domain = domain(&lab, directory);
    let host = Target {
        uuid: domain.spec.uuid,
        lab: lab.uuid,
    };
    let foreign = Target {
        uuid: host.uuid,
        lab: Uuid::new_v4(),
    };
    hypervisor
        .domain
        .define_domain(&domain)
        .await
        .expect("defined");
    let seen = found_domain(hypervisor, host.uuid).await.expect("listed");
    assert_eq!(
        (seen.name.as_str(), seen.power),
        ("twin-conformance-host", Power::ShutOff)
    );
    assert_eq!(
        seen.mark,
        Some(domain.mark.clone()),
        "the mark comes back as it was put"
    );
    hypervisor
        .domain
        .define_domain(&domain)
        .await
        .expect("defining again is as good");

    power(hypervisor, host, depth).await;
    strangers_are_safe(hypervisor, &domain, foreign).await;
    if depth != Depth::PowerOnly {
        links(hypervisor, host, foreign, domain.spec.nics[0].mac).await;
        one_more(hypervisor, host, foreign, &domain.spec.nics[0]).await;
        captures::all(hypervisor, host, foreign, &domain.spec.disks[0].path).await;
    }
    let in_files = [
        (Depth::Full, true),
        (Depth::WithoutFiles, false),
        (Depth::PowerOnly, false),
    ];
    if in_files.contains(&(depth, true)) {
        let mut in_file = domain.clone();
        in_file.spec.ram = RamBacking::File;
        hypervisor
            .domain
            .define_domain(&in_file)
            .await
            .expect("defined");
        captures::memory_in_a_file(hypervisor, host, in_file.spec.memory).await;
    }

    hypervisor
        .domain
        .remove_domain(host)
        .await
        .expect("removed");
    assert!(found_domain(hypervisor, host.uuid).await.is_none());
    hypervisor
        .domain
        .remove_domain(host)
        .await
        .expect("removing what is gone is as good");
    hypervisor
        .network
        .remove_network(net)
        .await
        .expect("removed");
    assert!(found_network(hypervisor, net.uuid).await.is_none());
    hypervisor
        .network
        .remove_network(net)
        .await
        .expect("removing what is gone is as good");
    let gone = hypervisor.domain.power(host, PowerAction::Start).await;
    assert!(
        matches!(gone, Err(HypervisorError::NotFound { .. })),
        "{gone:?}"
    );
}

async fn networks(hypervisor: &Hypervisor, network: &Marked<NetworkSpec>, net: Target) {
    hypervisor
        .network
        .define_network(network)
        .await
        .expect("defined");
    let seen = found_network(hypervisor, net.uuid).await.expect("listed");
    assert!(!seen.active, "defining does not start");
    assert_eq!(
        seen.mark,
        Some(network.mark.clone()),
        "the mark comes back as it was put"
    );
    assert_eq!(seen.cidr, Some(network.spec.cidr));
    hypervisor
        .network
        .start_network(net)
        .await
        .expect("started");
    hypervisor
        .network
        .start_network(net)
        .await
        .expect("starting again is as good");
    assert!(
        found_network(hypervisor, net.uuid)
            .await
            .expect("listed")
            .active
    );
    let foreign = Target {
        uuid: net.uuid,
        lab: Uuid::new_v4(),
    };
    let refused = hypervisor.network.remove_network(foreign).await;
    assert!(
        matches!(refused, Err(HypervisorError::NotOurs { .. })),
        "{refused:?}"
    );
}

async fn power(hypervisor: &Hypervisor, host: Target, depth: Depth) {
    let steps: &[(PowerAction, Power)] = &[
        (PowerAction::Start, Power::Running),
        (PowerAction::Start, Power::Running),
        (PowerAction::Suspend, Power::Paused),
        (PowerAction::Suspend, Power::Paused),
        (PowerAction::Resume, Power::Running),
        (PowerAction::Resume, Power::Running),
        (PowerAction::Reset, Power::Running),
        (PowerAction::Destroy, Power::ShutOff),
        (PowerAction::Destroy, Power::ShutOff),
        (PowerAction::Start, Power::Running),
    ];
    for (action, state) in steps {
        if *action == PowerAction::Reset && depth == Depth::PowerOnly {
            continue;
        }
        hypervisor
            .domain
            .power(host, *action)
            .await
            .unwrap_or_else(|error| panic!("{action:?}: {error}"));
        assert_eq!(
            hypervisor.domain.power_state(host).await.expect("a state"),
            *state,
            "after {action:?}"
        );
    }
}

/// A running domain's link goes down and comes up, again is as good, and another process has it up.
async fn links(hypervisor: &Hypervisor, host: Target, foreign: Target, mac: Mac) {
    let state = async || hypervisor.devices.nic(host, mac).await.expect("a state");
    assert_eq!(state().await, NicState::Up);
    for wanted in [NicState::Down, NicState::Down, NicState::Up] {
        hypervisor
            .devices
            .set_nic(host, mac, wanted)
            .await
            .expect("set");
        assert_eq!(state().await, wanted);
    }
    let down = NicState::Down;
    hypervisor
        .devices
        .set_nic(host, mac, down)
        .await
        .expect("set");
    let refused = hypervisor.devices.set_nic(foreign, mac, NicState::Up).await;
    assert!(
        matches!(refused, Err(HypervisorError::NotOurs { .. })),
        "{refused:?}"
    );
    assert_eq!(state().await, NicState::Down);
    let nowhere = hypervisor
        .devices
        .nic(host, Mac([0x52, 0x54, 0, 1, 2, 3]))
        .await;
    assert!(
        matches!(nowhere, Err(HypervisorError::NotFound { .. })),
        "{nowhere:?}"
    );
    for action in [PowerAction::Destroy, PowerAction::Start] {
        hypervisor
            .domain
            .power(host, action)
            .await
            .expect("a new process");
    }
    assert_eq!(state().await, NicState::Up);
}

/// One more interface is plugged into a running domain, and goes with its process; its own are never unplugged.
async fn one_more(hypervisor: &Hypervisor, host: Target, foreign: Target, own: &NicSpec) {
    let macs = async || -> Vec<Mac> {
        let anatomy = hypervisor
            .inspection
            .anatomy(host)
            .await
            .expect("an anatomy");
        anatomy.taps.into_iter().map(|(mac, _)| mac).collect()
    };
    let nic = NicSpec {
        mac: Mac([0x52, 0x54, 0, 1, 2, 4]),
        link: own.link.clone(),
    };
    let not_ours = |outcome: &Result<(), HypervisorError>| {
        matches!(outcome, Err(HypervisorError::NotOurs { .. }))
    };
    assert!(not_ours(
        &hypervisor.devices.attach_nic(foreign, &nic).await
    ));
    for _ in 0..2 {
        hypervisor
            .devices
            .attach_nic(host, &nic)
            .await
            .expect("plugged in");
        assert_eq!(macs().await, [own.mac, nic.mac]);
    }
    assert!(not_ours(
        &hypervisor.devices.detach_nic(foreign, nic.mac).await
    ));
    let refused = hypervisor.devices.detach_nic(host, own.mac).await;
    assert!(
        matches!(refused, Err(HypervisorError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(macs().await, [own.mac, nic.mac]);
    for action in [PowerAction::Destroy, PowerAction::Start] {
        hypervisor
            .domain
            .power(host, action)
            .await
            .expect("a new process");
    }
    assert_eq!(macs().await, [own.mac]);
    let gone = hypervisor.devices.detach_nic(host, nic.mac).await;
    gone.expect("gone is as good");
}

/// Another lab's things are refused, and stay as they are.
async fn strangers_are_safe(hypervisor: &Hypervisor, domain: &Marked<DomainSpec>, foreign: Target) {
    for action in [
        PowerAction::Destroy,
        PowerAction::Suspend,
        PowerAction::Reset,
    ] {
        let refused = hypervisor.domain.power(foreign, action).await;
        assert!(
            matches!(refused, Err(HypervisorError::NotOurs { .. })),
            "{action:?}: {refused:?}"
        );
    }
    let refused = hypervisor.domain.remove_domain(foreign).await;
    assert!(
        matches!(refused, Err(HypervisorError::NotOurs { .. })),
        "{refused:?}"
    );
    let mut claimed = domain.clone();
    claimed.mark.lab.uuid = foreign.lab;
    let refused = hypervisor.domain.define_domain(&claimed).await;
    assert!(
        matches!(refused, Err(HypervisorError::NotOurs { .. })),
        "{refused:?}"
    );
    assert_eq!(
        hypervisor
            .domain
            .power_state(foreign)
            .await
            .expect("a state"),
        Power::Running
    );
}
