//! One suite for every hypervisor driver: here on the simulated one and on libvirt's test driver; `tests/live` runs it on
//! QEMU.

#[path = "../conformance/mod.rs"]
mod suite;

use twin::hypervisor::libvirt::Libvirt;
use twin::hypervisor::{Hypervisor, PowerAction};
use twin::sim::SimWorld;
use twin::units::Seed;

#[tokio::test(start_paused = true)]
async fn the_simulated_hypervisor_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    suite::keeps_the_contract(
        SimWorld::new(Seed(1)).drivers().hypervisor,
        directory.path(),
        suite::Depth::WithoutFiles,
    )
    .await;
}

#[tokio::test]
async fn libvirts_test_driver_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let hypervisor = Hypervisor::of(Libvirt::new("test:///default"));
    suite::keeps_the_contract(hypervisor, directory.path(), suite::Depth::PowerOnly).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_clock_guests_and_network_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let drivers = SimWorld::new(Seed(1)).drivers();
    let (layout, _, found) =
        crate::lab_on_sim::up(crate::lab_on_sim::TOPOLOGY, &drivers, directory.path()).await;
    let clock = drivers.clock.as_ref();
    suite::seams::a_clock_keeps_the_contract(clock).await;
    let way = |host: &str| {
        let host = found.host(host).unwrap();
        drivers
            .guests
            .open(&host.way(&layout, &found.networks).unwrap())
    };
    suite::seams::a_guest_keeps_the_contract(way("a").as_ref(), clock, "a", "vm-0").await;
    let address = [10, 1, 0, 10].into();
    let net = &drivers.hostnet;
    suite::seams::a_network_keeps_the_contract(net, "sim1", (address, 3306), (address, 9)).await;
    let off = found.host("b").unwrap().target(found.record.uuid);
    drivers
        .hypervisor
        .domain
        .power(off, PowerAction::Destroy)
        .await
        .unwrap();
    suite::seams::a_silent_guest_is_told_in_time(way("b").as_ref(), clock).await;
}
