//! The seam to time: [`Clock`]. The real one is here; the simulated one is in `sim`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;

/// A clock.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Time since some moment in the past; never goes back.
    fn elapsed(&self) -> Duration;

    /// Waits.
    async fn sleep(&self, time: Duration);
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

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
