//! The watchdog: a process that waits while hosts stand still, and finishes what was begun should this process die.

use std::path::Path;

/// Stands by until released; dropped without that, or with this process, it acts.
pub trait Standing: Send {
    /// Sends it away: there is nothing to finish.
    fn release(self: Box<Self>);
}

/// Starts watchdogs.
pub trait Guardian: Send + Sync {
    /// Starts one for a lab whose files are in the state directory `state`.
    fn stand_by(&self, lab: &str, state: &Path) -> std::io::Result<Box<dyn Standing>>;
}

/// Starts none: for worlds in which nothing dies, and for tests of what `recover` does by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatchdog;

impl Standing for NoWatchdog {
    fn release(self: Box<Self>) {}
}

impl Guardian for NoWatchdog {
    fn stand_by(&self, _: &str, _: &Path) -> std::io::Result<Box<dyn Standing>> {
        Ok(Box::new(Self))
    }
}

/// When a process began, in ticks since the boot; nothing where there is none of this number, or it has ended and its parent
/// has not asked how.
pub fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may have anything in it.
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut words = behind.split(' ');
    let state = words.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    words.nth(18)?.parse().ok()
}
