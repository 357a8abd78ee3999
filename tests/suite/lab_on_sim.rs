//! The lab's life on the simulated drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use twin::hypervisor::Power;
use twin::journal::Journal;
use twin::lab::{self, Drivers, Found, Layout, Prepared, Silent};
use twin::model::place::{self, BuiltImage, Overhead};
use twin::model::spec::Boot;
use twin::model::{AcceleratorChoice, LabRecord, Placed, Scale, Topology};
use twin::plan::{self, Desired, Wanted};
use twin::sim::SimWorld;
use twin::topology::load;
use twin::units::{Mib, Seed};
use uuid::Uuid;

use crate::support::{Folder, root};

/// Three hosts without disks: nothing outside the simulated machine is needed.
pub(crate) const TOPOLOGY: &str = "
schema: twin/topology/v1
name: simlab
networks:
  metal: {bridge: sim1, cidr: 10.1.0.0/24, gateway: 10.1.0.1, mode: nat, dhcp: static}
defaults: {image: micro, memory: 8GiB, disk: 0MiB, ram: anon}
hosts:
  a:
    nics: [{network: metal, address: 10.1.0.10}]
    services: [{name: mysqld, memory: 1GiB, ports: [3306]}, {name: apache2, memory: 1GiB}]
    compute: true
    instances: [{name: vm-0, flavor: worker}]
  b: {nics: [{network: metal, address: 10.1.0.11}], services: [{name: apache2, memory: 1GiB}]}
  c: {nics: [{network: metal, address: 10.1.0.12}]}
compute: {ram_allocation_ratio: 0.98, reserved_host_memory: 512MiB, flavors: {worker: 1GiB}}
";

pub(crate) fn topology(text: &str) -> Topology {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("simlab.yaml"), text).unwrap();
    load("simlab.yaml", &Folder(directory.path().to_owned()))
        .unwrap()
        .topology
}

fn image() -> BuiltImage {
    let boot = Boot::Kernel {
        kernel: "/kernel".into(),
        initrd: "/initrd".into(),
        cmdline: String::new(),
    };
    let overhead = Overhead {
        fixed: Mib(64),
        per_gib_kib: 0,
    };
    BuiltImage {
        boot,
        base: None,
        base_size: Mib(0),
        has_twin_guest: true,
        takes_seed: false,
        overhead,
    }
}

fn desired(placed: &Placed, layout: &Layout) -> Desired {
    let directory = layout.lab(placed.record.uuid);
    let machine = place::Machine {
        lab_directory: &directory,
        cpus: 2,
    };
    let wanted = placed.hosts.iter().map(|host| Wanted {
        domain: place::domain_spec(placed, host, &image(), machine),
        answers: true,
    });
    Desired {
        lab: placed.record.uuid,
        networks: placed
            .networks
            .iter()
            .filter_map(|network| place::network_spec(placed, network))
            .collect(),
        domains: wanted.collect(),
        replace: BTreeSet::new(),
        blank: false,
        again: "twin up simlab".into(),
        only: None,
        directory: directory.clone(),
    }
}

/// Plans the topology as a lab on the simulated machine.
pub(crate) async fn prepared(topology: Topology, drivers: &Drivers, layout: &Layout) -> Prepared {
    let record = LabRecord {
        // Tests run side by side, and a lab's lock goes by its UUID.
        uuid: Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            layout.state().as_os_str().as_encoded_bytes(),
        ),
        name: topology.name.clone(),
        topology: topology.name.clone(),
        scale: Scale::new(16).unwrap(),
        accelerator: AcceleratorChoice::Tcg,
        shift: 0,
        time_scale: 10,
        state: Some(layout.state().to_owned()),
    };
    let placed = Placed::new(topology, record).unwrap();
    let desired = desired(&placed, layout);
    let observed = lab::observe(drivers, layout, &desired.directory)
        .await
        .unwrap();
    assert_eq!(plan::conflicts(&desired, &observed), []);
    let plan = plan::make(&desired, &observed);
    Prepared {
        placed,
        plan,
        desired,
        images: BTreeMap::new(),
        machine_lock: None,
        lab_lock: None,
    }
}

/// Brings a simulated lab up.
pub(crate) async fn up(text: &str, drivers: &Drivers, state: &Path) -> (Layout, Journal, Found) {
    let layout = Layout::new(state.to_owned());
    let journal = Journal::open(state, &drivers.clock).unwrap();
    let mut prepared = prepared(topology(text), drivers, &layout).await;
    lab::apply(
        &mut prepared,
        drivers,
        &layout,
        &journal,
        &Silent,
        8,
        Duration::from_secs(60),
    )
    .await
    .unwrap();
    let found = lab::choose(lab::find_all(drivers, &layout).await.unwrap(), None).unwrap();
    (layout, journal, found)
}

#[tokio::test(start_paused = true)]
async fn up_brings_every_host_up_and_again_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, found) = up(TOPOLOGY, &drivers, directory.path()).await;
    let status = lab::status(&found, &drivers, &layout).await.unwrap();
    assert_eq!(status.hosts.len(), 3);
    assert!(
        status
            .hosts
            .iter()
            .all(|host| host.power == Power::Running && host.answers == Some(true))
    );
    assert!(status.networks.iter().all(|network| network.active));
    let again = prepared(topology(TOPOLOGY), &drivers, &layout).await;
    // One that was stopped while it waited is gone on with: what runs is waited for again.
    assert_eq!(again.plan.steps.len(), 3, "{}", again.plan);
    assert_eq!(
        (again.plan.changes(), again.plan.blocked.len()),
        (0, 0),
        "{}",
        again.plan
    );
}

#[tokio::test(start_paused = true)]
async fn a_lab_is_destroyed_by_its_marks_without_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, journal, found) = up(TOPOLOGY, &drivers, directory.path()).await;
    drop(journal);
    std::fs::remove_file(directory.path().join("journal.sqlite")).unwrap();
    let lock = lab::Lock::lab(
        found.record.uuid,
        "simlab",
        "destroy",
        drivers.clock.as_ref(),
    )
    .unwrap();
    lab::destroy(&found, &lock, &drivers, &layout, None, &Silent)
        .await
        .unwrap();
    assert!(lab::find_all(&drivers, &layout).await.unwrap().is_empty());
    assert!(
        drivers
            .hypervisor
            .inventory
            .domains()
            .await
            .unwrap()
            .is_empty()
    );
    assert!(drivers.hostnet.links.links().await.unwrap().is_empty());
    assert!(!layout.lab(found.record.uuid).exists());
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_running_host_cannot_follow_is_named_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, _) = up(TOPOLOGY, &drivers, directory.path()).await;
    let bigger = topology(&TOPOLOGY.replace("memory: 8GiB", "memory: 9GiB"));
    let plan = prepared(bigger, &drivers, &layout).await.plan;
    assert_eq!(plan.changes(), 0, "{plan}");
    assert_eq!(plan.blocked.len(), 3);
    assert!(
        plan.blocked
            .iter()
            .all(|blocked| blocked.cure.contains("--replace")),
        "{plan}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_service_reaches_a_running_host() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, _) = up(TOPOLOGY, &drivers, directory.path()).await;
    let more = topology(&TOPOLOGY.replace(
        "  c: {nics",
        "  c: {services: [{name: dnsmasq, memory: 8MiB}], nics",
    ));
    let plan = prepared(more, &drivers, &layout).await.plan;
    let ids: Vec<&str> = plan
        .steps
        .iter()
        .filter(|step| step.changes())
        .map(|step| step.id.as_str())
        .collect();
    assert_eq!(ids, ["host/c/define", "host/c/configure"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_no_longer_in_the_topology_is_named_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, _) = up(TOPOLOGY, &drivers, directory.path()).await;
    let fewer: String = TOPOLOGY
        .lines()
        .filter(|line| !line.starts_with("  c:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let plan = prepared(topology(&fewer), &drivers, &layout).await.plan;
    assert!(
        plan.blocked.iter().any(|blocked| blocked.thing == "c"),
        "{plan}"
    );
    assert!(
        !plan.steps.iter().any(|step| step.id.contains("/c/")),
        "{plan}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_is_told_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, _) = up(TOPOLOGY, &drivers, directory.path()).await;
    let record = LabRecord {
        uuid: Uuid::from_u128(8),
        name: "other".parse().unwrap(),
        topology: "simlab".parse().unwrap(),
        scale: Scale::new(16).unwrap(),
        accelerator: AcceleratorChoice::Tcg,
        shift: 0,
        time_scale: 10,
        state: Some(layout.state().to_owned()),
    };
    let placed = Placed::new(topology(TOPOLOGY), record).unwrap();
    let desired = desired(&placed, &layout);
    let observed = lab::observe(&drivers, &layout, &desired.directory)
        .await
        .unwrap();
    let found: Vec<String> = plan::conflicts(&desired, &observed)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        found
            .iter()
            .any(|line| line.contains("10.1.0.0/24 is taken by network simlab-metal")),
        "{found:?}"
    );
    let shift = plan::free_shift(&placed.topology, &observed).unwrap();
    assert_eq!(shift, 1 << 16);
}

#[test]
fn what_is_polled_moves_with_the_lab() {
    let topologies = Folder(root().join("topologies"));
    let topology = load("testcloud", &topologies).unwrap().topology;
    let record = LabRecord {
        uuid: Uuid::from_u128(9),
        name: "second".parse().unwrap(),
        topology: "testcloud".parse().unwrap(),
        scale: Scale::new(32).unwrap(),
        accelerator: AcceleratorChoice::Tcg,
        shift: 1 << 16,
        time_scale: 10,
        state: None,
    };
    let placed = Placed::new(topology, record).unwrap();
    let openstack2 = placed.topology.host("openstack2").unwrap();
    let services = placed.topology.services_of(openstack2);
    let polling = services
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.polls?)));
    let polling: Vec<_> = polling.collect();
    assert_eq!(polling, [("magnum", "10.13.8.41:16443".parse().unwrap())]);
}

#[test]
fn testcloud_fits_this_kind_of_machine_at_scale_16() {
    let topology = load("testcloud", &Folder(root().join("topologies")))
        .unwrap()
        .topology;
    let need = |scale: Scale| {
        topology
            .hosts
            .iter()
            .map(|host| image().overhead.on_top_of(scale.effective(host.memory)))
            .sum()
    };
    assert_eq!(
        Scale::choose(Mib(22 * 1024), need).map(Scale::divisor),
        Some(16)
    );
}

#[tokio::test(start_paused = true)]
async fn a8_what_a_dead_destroy_left_of_a_directory_is_swept_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, found) = up(TOPOLOGY, &drivers, directory.path()).await;
    let lab = layout.lab(found.record.uuid);
    let labs = lab.parent().unwrap();
    let gone = labs.join(format!("{}.removing", Uuid::new_v4()));
    let half = labs.join(format!("{}.making", Uuid::new_v4()));
    let strange = labs.join("a stranger's.removing");
    let nameless = labs.join(format!("{}.removing", Uuid::new_v4()));
    for left in [&gone, &half, &strange, &nameless] {
        std::fs::create_dir(left).unwrap();
    }
    // What a twin has left carries the lab's record, or has nothing but a draft of it.
    let own = gone.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let record = LabRecord {
        uuid: own,
        ..found.record.clone()
    };
    std::fs::write(gone.join("lab.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    std::fs::create_dir(gone.join("a")).unwrap();
    std::fs::write(gone.join("a/disk0.qcow2"), "left").unwrap();
    std::fs::write(half.join("lab.json.draft"), "{").unwrap();
    for other in [&strange, &nameless] {
        std::fs::write(other.join("disk0.qcow2"), "an operator's").unwrap();
    }
    let mut swept = lab::sweep(&layout, drivers.clock.as_ref()).unwrap();
    swept.sort();
    let mut expected = [&gone, &half].map(|path| path.display().to_string());
    expected.sort();
    assert_eq!(swept, expected);
    assert!(!gone.exists() && !half.exists());
    for other in [&strange, &nameless] {
        assert!(other.join("disk0.qcow2").exists(), "{}", other.display());
    }
    assert!(lab.join("lab.json").exists());
}

/// An `up` that ended between making a directory and opening it to QEMU's user leaves one that the umask closed.
#[tokio::test(start_paused = true)]
async fn d2_a_directory_that_was_made_only_in_part_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, found) = up(TOPOLOGY, &drivers, directory.path()).await;
    let lab = layout.lab(found.record.uuid);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let modes = |lab: &Path| (mode(lab), mode(&lab.join("a")), mode(&lab.join("b")));
    let before = modes(&lab);
    for closed in [lab.clone(), lab.join("a")] {
        std::fs::set_permissions(closed, Permissions::from_mode(0o700)).unwrap();
    }
    let again = prepared(topology(TOPOLOGY), &drivers, &layout).await;
    let changes = again.plan.steps.iter().filter(|step| step.changes());
    let changes: Vec<&str> = changes.map(|step| step.id.as_str()).collect();
    assert_eq!(changes, ["lab/directory", "host/a/directory"]);
    // It is not made, and removing it would be no way back.
    for step in again.plan.steps.iter().filter(|step| step.changes()) {
        assert!(
            step.to_string().starts_with("let QEMU's user pass"),
            "{step}"
        );
        assert_eq!(step.inverse(), None);
    }
    up(TOPOLOGY, &drivers, directory.path()).await;
    assert_eq!(modes(&lab), before);
}

/// A state directory that was moved, or mounted elsewhere, holds records that name the place of before.
#[tokio::test(start_paused = true)]
async fn a3_a_lab_of_which_its_directory_is_left_has_its_files_there() {
    let directory = tempfile::tempdir().unwrap();
    let was = directory.path().join("was");
    std::fs::create_dir(&was).unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, journal, found) = up(TOPOLOGY, &drivers, &was).await;
    assert_eq!(found.state(), Some(was.clone()));
    drop(journal);
    // Another machine, on which libvirt knows nothing of it.
    let is = directory.path().join("is");
    std::fs::rename(&was, &is).unwrap();
    let elsewhere = SimWorld::new(Seed(1)).drivers();
    let moved = Layout::new(is.clone());
    let found = lab::choose(lab::find_all(&elsewhere, &moved).await.unwrap(), None).unwrap();
    assert_eq!(found.state(), Some(is), "not {:?}", layout.state());
}

/// The host key that twin makes lasts as long as the seed that brings it; a guest that made its own makes another on a blank disk.
#[tokio::test(start_paused = true)]
async fn b5_a_guest_that_makes_its_own_host_key_is_believed_anew_after_its_release() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, found) = up(TOPOLOGY, &drivers, directory.path()).await;
    let file = |host: &str, name: &str| layout.lab(found.record.uuid).join(host).join(name);
    for host in ["a", "b"] {
        std::fs::create_dir_all(file(host, "")).unwrap();
        std::fs::write(file(host, "known_hosts"), "10.1.0.10 ssh-ed25519 AAAA").unwrap();
    }
    std::fs::write(file("b", "ssh_host_key"), "a key of twin's making").unwrap();
    let lock = lab::Lock::lab(
        found.record.uuid,
        "simlab",
        "release",
        drivers.clock.as_ref(),
    )
    .unwrap();
    lab::release(&found, &lock, None, &drivers, &Silent)
        .await
        .unwrap();
    assert!(!file("a", "known_hosts").exists());
    assert!(file("b", "known_hosts").exists());
}

#[tokio::test(start_paused = true)]
async fn a_lab_whose_mark_was_lost_gets_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, journal, found) = up(TOPOLOGY, &drivers, directory.path()).await;
    let mark = layout.lab(found.record.uuid).join("lab.json");
    let text = std::fs::read_to_string(&mark).unwrap();
    std::fs::remove_file(&mark).unwrap();
    drop(journal);
    up(TOPOLOGY, &drivers, directory.path()).await;
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), text);
}

#[test]
fn labs_are_not_looked_for_below_a_pool_that_is_not_mounted() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path().to_owned());
    std::fs::create_dir(layout.pool()).unwrap();
    assert!(layout.need_pool().is_ok(), "there is no pool of its own");
    std::fs::write(layout.pool_image(), "a file system").unwrap();
    let refused = layout.need_pool().unwrap_err();
    assert!(refused.to_string().contains("not mounted"), "{refused}");
    assert!(
        refused.cures()[0].contains("mount -o loop"),
        "{:?}",
        refused.cures()
    );
}
