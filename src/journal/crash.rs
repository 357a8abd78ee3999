//! Dying at a chosen write: in debug builds the N-th point of `TWIN_DIE_AT` kills the process as `kill -9` does, and that of
//! `TWIN_STOP_AT` stops it until it gets SIGCONT. There is a point before and after each write of the journal.

#[cfg(debug_assertions)]
pub(super) fn point() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let number = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    for (variable, signal) in [
        ("TWIN_DIE_AT", Signal::SIGKILL),
        ("TWIN_STOP_AT", Signal::SIGSTOP),
    ] {
        let chosen = std::env::var(variable).ok();
        if chosen.and_then(|text| text.parse::<u64>().ok()) == Some(number) {
            // Nothing can be done where even this fails.
            let _ = kill(Pid::this(), signal);
        }
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn point() {}

/// The point at which one journal dies.
#[derive(Debug, Default)]
pub(super) struct Death {
    #[cfg(debug_assertions)]
    left: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
impl Death {
    /// Sets it, from 1.
    pub(super) fn set(&self, point: u64) {
        self.left.store(point, std::sync::atomic::Ordering::Relaxed);
    }

    /// Passes a point; tells whether this one is dead by then, which it stays.
    pub(super) fn passed(&self) -> bool {
        use std::sync::atomic::Ordering;
        let one_less = |left: u64| (left > 1).then(|| left - 1);
        match self.left.load(Ordering::Relaxed) {
            0 => false,
            _ => self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_err(),
        }
    }
}

#[cfg(not(debug_assertions))]
impl Death {
    pub(super) const fn set(&self, _: u64) {}

    pub(super) const fn passed(&self) -> bool {
        false
    }
}
