//! Follows memory while it is short, and keeps what it was like around each kill of a process for want of it: twin itself looks
//! once a second, and the last of that second is what matters.
//!
//! The kernel wakes this where tasks begin to wait for memory (a PSI trigger), however long that is before the next reading.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use twin::wire::{MemoryReading, MemoryState};

use crate::keep::locked;
use crate::procfs;

/// Between two readings; and while less than one part in so many is available, or tasks wait for memory.
const EVERY: Duration = Duration::from_millis(500);
const EVERY_WHEN_SHORT: Duration = Duration::from_millis(5);
const SHORT: u64 = 10;

/// Tasks that have waited so long within so long, in microseconds, wake this; the kernel looks ten times in that window
/// (Documentation/accounting/psi.rst).
const TRIGGER: &[u8] = b"some 1000 500000\0";

/// So long after such a moment memory counts as short.
const WAKEFUL: Duration = Duration::from_secs(2);

/// So many kills are remembered.
const KILLS: usize = 8;

/// The readings.
#[derive(Clone, Default)]
pub(crate) struct Shortage(Arc<Mutex<Vec<MemoryReading>>>);

impl Shortage {
    /// Follows it from now on.
    pub(crate) fn follow() -> Self {
        let shortage = Self::default();
        let kept = shortage.clone();
        std::thread::spawn(move || {
            let trigger = trigger();
            let mut last = read();
            let mut wakeful = Instant::now();
            loop {
                let memory = &last.memory;
                let short = memory.available_kib < memory.total_kib / SHORT;
                if short || Instant::now() < wakeful {
                    std::thread::sleep(EVERY_WHEN_SHORT);
                } else if woken(trigger.as_ref()) {
                    wakeful = Instant::now() + WAKEFUL;
                }
                let now = read();
                if now.memory.oom_kill > last.memory.oom_kill {
                    let total = now.memory.psi_full_total_us;
                    last.after_kill = total.map(|total| (now.uptime_ms, total));
                    let mut kept = locked(&kept.0);
                    kept.push(last);
                    if kept.len() > KILLS {
                        kept.remove(0);
                    }
                }
                last = now;
            }
        });
        shortage
    }

    /// Memory now, with what it was like around the last kills.
    pub(crate) fn memory(&self) -> MemoryState {
        MemoryState {
            before_kills: locked(&self.0).clone(),
            ..procfs::memory()
        }
    }
}

/// Asks the kernel to wake this; nothing where it has no PSI.
fn trigger() -> Option<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open("/proc/pressure/memory")
        .ok()?;
    file.write_all(TRIGGER).ok()?;
    Some(file)
}

/// Waits for the next reading; whether the kernel has woken it for it.
fn woken(trigger: Option<&File>) -> bool {
    let Some(trigger) = trigger else {
        std::thread::sleep(EVERY);
        return false;
    };
    let mut waited = [PollFd::new(trigger.as_fd(), PollFlags::POLLPRI)];
    let timeout = PollTimeout::try_from(EVERY).unwrap_or(PollTimeout::ZERO);
    match poll(&mut waited, timeout) {
        Ok(0) => false,
        Ok(_) => {
            let pressed = |fd: &PollFd<'_>| {
                fd.revents()
                    .is_some_and(|got| got.contains(PollFlags::POLLPRI))
            };
            let woken = waited.iter().any(pressed);
            if !woken {
                // The kernel has taken the trigger away, and would answer at once for ever.
                std::thread::sleep(EVERY);
            }
            woken
        }
        Err(_) => {
            std::thread::sleep(EVERY_WHEN_SHORT);
            false
        }
    }
}

fn read() -> MemoryReading {
    MemoryReading {
        uptime_ms: procfs::uptime_ms(),
        memory: procfs::memory(),
        after_kill: None,
    }
}
