//! One suite for every hypervisor driver: here on the simulated one and on libvirt's test driver; `tests/live` runs it on
//! QEMU.

#[path = "../conformance/mod.rs"]
mod suite;

use std::sync::Arc;

use twin::hypervisor::Hypervisor;
use twin::hypervisor::libvirt::Libvirt;
use twin::sim::SimWorld;
use twin::units::Seed;

#[tokio::test(start_paused = true)]
async fn the_simulated_hypervisor_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    suite::keeps_the_contract(
        SimWorld::new(Seed(1)).drivers().hypervisor,
        directory.path(),
        suite::Depth::Full,
    )
    .await;
}

#[tokio::test]
async fn libvirts_test_driver_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let hypervisor: Arc<dyn Hypervisor> = Arc::new(Libvirt::new("test:///default"));
    suite::keeps_the_contract(hypervisor, directory.path(), suite::Depth::PowerOnly).await;
}
