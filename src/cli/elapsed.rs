//! How long a command took.

use std::time::Duration;

use crate::clock::Clock;
use crate::lab::started;

/// How long ago this command was given: its process is as old, `exec` notwithstanding. To 10 ms.
pub(crate) fn since_given(clock: &dyn Clock) -> Duration {
    use nix::unistd::{SysconfVar, sysconf};
    let ticks = started(std::process::id());
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let (Some(ticks), Some(per_second)) = (ticks, per_second) else {
        return Duration::ZERO;
    };
    let started_ms = ticks * 1000 / per_second.unsigned_abs().max(1);
    let now = clock.boot().since;
    now.saturating_sub(Duration::from_millis(started_ms))
}

/// Milliseconds of a duration.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
