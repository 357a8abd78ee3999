//! Readings from /proc and /sys.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use twin::wire::{MemoryState, ProcessState};

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Finds `key` at a line's start and returns the number after it.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim_start_matches([':', ' ', '\t'])
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The kernel's `boot_id`.
pub(crate) fn boot_id() -> String {
    text("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

/// Milliseconds since the kernel started.
pub(crate) fn uptime_ms() -> u64 {
    let uptime = text("/proc/uptime");
    let seconds: f64 = uptime
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an uptime is positive and small"
    )]
    let milliseconds = (seconds * 1000.0) as u64;
    milliseconds
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn clock_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock in microseconds since 1970.
pub(crate) fn clock_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Moves the wall clock.
pub(crate) fn step_clock(by_us: i64) -> Result<(), String> {
    use nix::sys::time::{TimeSpec, TimeValLike};
    use nix::time::{ClockId, clock_gettime, clock_settime};
    let clock = ClockId::CLOCK_REALTIME;
    clock_gettime(clock)
        .and_then(|now| clock_settime(clock, now + TimeSpec::microseconds(by_us)))
        .map_err(|error| format!("setting the clock: {error}"))
}

/// The host name.
pub(crate) fn hostname() -> String {
    text("/proc/sys/kernel/hostname").trim().to_owned()
}

/// Memory as a whole.
pub(crate) fn memory() -> MemoryState {
    let meminfo = text("/proc/meminfo");
    // Before the count of kills: what is read with an old count was so before the kill.
    let pressure = text("/proc/pressure/memory");
    MemoryState {
        total_kib: number_after(&meminfo, "MemTotal").unwrap_or_default(),
        available_kib: number_after(&meminfo, "MemAvailable").unwrap_or_default(),
        oom_kill: number_after(&text("/proc/vmstat"), "oom_kill ").unwrap_or_default(),
        psi_full_avg10: pressure
            .lines()
            .find_map(|line| line.strip_prefix("full avg10="))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok()),
        psi_full_total_us: pressure
            .lines()
            .find(|line| line.starts_with("full "))
            .and_then(|line| line.rsplit_once("total=")?.1.trim().parse().ok()),
        swap_total_kib: number_after(&meminfo, "SwapTotal").unwrap_or_default(),
        swap_free_kib: number_after(&meminfo, "SwapFree").unwrap_or_default(),
        before_kills: Vec::new(),
    }
}

/// Whether a process is stopped by a signal.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = text(&format!("/proc/{pid}/stat"));
    // Behind the name, which may have anything in it.
    let state = stat.rsplit_once(") ").map(|(_, behind)| behind);
    state.is_some_and(|state| state.starts_with('T'))
}

/// One process, or nothing where it does not live.
pub(crate) fn process(pid: u32) -> Option<ProcessState> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // A zombie has no VmRSS line.
    let rss_kib = number_after(&status, "VmRSS")?;
    let oom_score_adj = text(&format!("/proc/{pid}/oom_score_adj"))
        .trim()
        .parse()
        .ok()?;
    Some(ProcessState {
        pid,
        rss_kib,
        oom_score_adj,
    })
}

/// Ids of the processes whose second argument is `mode` and that run this program.
pub(crate) fn own_processes(mode: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = fs::read_link("/proc/self/exe").ok();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| *pid != std::process::id())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok() == own)
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(mode.as_bytes())
        })
        .collect()
}
