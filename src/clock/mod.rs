//! The seam to time: [`Clock`]. The real one is here; the simulated one is in `sim`. Outside drivers nothing else is asked for
//! the time, or waits: `clippy.toml` sees to that.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// A clock.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock, which people and NTP set: for what people read.
    fn now(&self) -> Timestamp;

    /// Time since some moment in the past; never goes back.
    fn elapsed(&self) -> Duration;

    /// The time since this machine booted, which all its processes agree on.
    fn boot(&self) -> BootTime;

    /// Waits.
    async fn sleep(&self, time: Duration);
}

impl dyn Clock {
    /// Does something within a time; nothing where it has not ended by then, and is dropped.
    pub async fn timeout<T>(&self, within: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(within) => None,
        }
    }
}

/// A moment: which boot of the machine, and how long after it. It counts on while the machine is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTime {
    /// The kernel's id of the boot.
    pub boot: String,
    /// Since then.
    pub since: Duration,
}

impl BootTime {
    /// The moment that is `time` later.
    #[must_use]
    pub fn later(mut self, time: Duration) -> Self {
        self.since = self.since.saturating_add(time);
        self
    }

    /// Milliseconds after the boot.
    pub fn milliseconds(&self) -> i64 {
        i64::try_from(self.since.as_millis()).unwrap_or(i64::MAX)
    }

    /// Whether it was before `now`: so is each of an earlier boot.
    pub fn is_over(&self, now: &Self) -> bool {
        self.boot != now.boot || self.since < now.since
    }
}

/// This machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl SystemClock {
    /// One to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::default())
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn boot(&self) -> BootTime {
        static BOOT: OnceLock<String> = OnceLock::new();
        let boot = BOOT.get_or_init(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            id.unwrap_or_default().trim().to_owned()
        });
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME);
        BootTime {
            boot: boot.clone(),
            since: since.map(Duration::from).unwrap_or_default(),
        }
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_an_earlier_boot_is_over() {
        let at = |boot: &str, seconds| BootTime {
            boot: boot.into(),
            since: Duration::from_secs(seconds),
        };
        assert!(at("a", 5).is_over(&at("a", 6)) && !at("a", 6).is_over(&at("a", 6)));
        assert!(at("a", 500).is_over(&at("b", 1)));
        assert_eq!(at("a", 5).later(Duration::from_secs(2)), at("a", 7));
        let clock = SystemClock::shared();
        let (one, other) = (clock.boot(), clock.boot());
        assert_eq!(one.boot.len(), 36, "{one:?}");
        assert!(one.boot == other.boot && one.since <= other.since);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_in_time_is_dropped() {
        let clock = SystemClock::shared();
        let never = std::future::pending::<()>();
        assert_eq!(clock.timeout(Duration::from_secs(5), never).await, None);
        let done = std::future::ready(7);
        assert_eq!(clock.timeout(Duration::ZERO, done).await, Some(7));
    }
}
