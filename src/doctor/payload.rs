//! A machine that runs a few instructions of ours and ends, timed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::model::AcceleratorChoice;

/// One that takes longer is as good as none.
const DEADLINE: Duration = Duration::from_secs(8);

/// The exit status of QEMU when the payload ends by `isa-debug-exit` with 0x10: (0x10 << 1) | 1.
const DONE: i32 = 33;

/// Runs QEMU with what `machine` adds, until the payload ends it; nothing where it did not in time.
pub(super) async fn run(accelerator: AcceleratorChoice, machine: &[String]) -> Option<Duration> {
    let cpu = match accelerator {
        AcceleratorChoice::Kvm => "host",
        AcceleratorChoice::Tcg => "max",
    };
    let started = Instant::now();
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-accel", accelerator.as_str(), "-cpu", cpu])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .args(machine)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let status = tokio::time::timeout(DEADLINE, child.wait())
        .await
        .ok()?
        .ok()?;
    (status.code() == Some(DONE)).then(|| started.elapsed())
}
