//! Tests on real libvirt and QEMU. They make labs of their own, named after this process, and touch nothing else; what
//! they made is removed, also after a panic.
//!
//! `TWIN_LIVE=full` runs each at the size of the list instead of a sample.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop at what it did not expect, and says what it measured"
)]

mod baselines;
mod crashes;
mod deaths;
mod errors;
mod failures;
mod images;
mod kills;
mod long;
mod machine;
mod neighbours;
mod power;
mod privacy;
mod probes;
mod readme;
mod reboot;
mod sabotage;
mod setup;
mod space;
mod states;
mod support;
mod testcloud;
mod trust;
mod turns;
mod undo;
mod verbs;

#[path = "../conformance/mod.rs"]
mod suite;

use twin::hypervisor::Hypervisor;
use twin::hypervisor::libvirt::Libvirt;

#[test]
fn qemu_keeps_the_hypervisors_contract() {
    let _turn = turns::beside();
    let directory = support::qemu_directory("conformance");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let hypervisor = Hypervisor::of(Libvirt::new("qemu:///system"));
    runtime.block_on(suite::keeps_the_contract(
        hypervisor,
        directory.path(),
        suite::Depth::Full,
    ));
}
