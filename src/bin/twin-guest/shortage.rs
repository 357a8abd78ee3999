//! Follows memory while it is short, and keeps what it was like just before the kernel killed a process for want of it: twin
//! itself looks once a second, and the last of that second is what matters.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use twin::wire::{MemoryReading, MemoryState};

use crate::keep::locked;
use crate::procfs;

/// Between two readings; and while less than one part in so many is available.
const EVERY: Duration = Duration::from_millis(500);
const EVERY_WHEN_SHORT: Duration = Duration::from_millis(5);
const SHORT: u64 = 10;

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
            let mut last = read();
            loop {
                let memory = &last.memory;
                let short = memory.available_kib < memory.total_kib / SHORT;
                std::thread::sleep(if short { EVERY_WHEN_SHORT } else { EVERY });
                let now = read();
                if now.memory.oom_kill > last.memory.oom_kill {
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

    /// Memory now, with what it was like before the last kills.
    pub(crate) fn memory(&self) -> MemoryState {
        MemoryState {
            before_kills: locked(&self.0).clone(),
            ..procfs::memory()
        }
    }
}

fn read() -> MemoryReading {
    MemoryReading {
        uptime_ms: procfs::uptime_ms(),
        memory: procfs::memory(),
    }
}
