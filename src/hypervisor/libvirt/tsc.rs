//! How fast this machine's time stamp counter runs, for guests that cannot find that out.
//!
//! QEMU without KVM passes the counter through and says nothing of its frequency. Linux measures it against the emulated PIT
//! and believes that even where the HPET tells otherwise (`pit_hpet_ptimer_calibrate_cpu`): a guest that boots while this
//! machine is busy has taken 2300 MHz for 762, and its clock ran three times too fast. `tsc_early_khz` tells it; it
//! corrects that by itself within a hundredth.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long it is measured.
const MEASURED: Duration = Duration::from_millis(20);

const KHZ_IN_MHZ: u64 = 1000;

/// How often the counter and the clock are read: in some readings the kernel runs another thread between the two.
const READINGS: u32 = 50;

/// The frequency in kHz, to the nearest MHz; nothing where the counter does not tell the time.
pub(super) fn khz() -> Option<u64> {
    static KHZ: OnceLock<Option<u64>> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags = info.lines().find(|line| line.starts_with("flags"))?;
    flags
        .split_whitespace()
        .find(|flag| *flag == "constant_tsc")?;
    let (from, started) = at_once()?;
    std::thread::sleep(MEASURED);
    let (to, ended) = at_once()?;
    let took = ended.duration_since(started);
    let ticks = u128::from(to.checked_sub(from)?);
    let mhz = ticks * 1000 / took.as_nanos().max(1);
    let rest = ticks * 1000 % took.as_nanos().max(1);
    let mhz = mhz + u128::from(rest * 2 >= took.as_nanos());
    u64::try_from(mhz)
        .ok()
        .filter(|mhz| *mhz > 0)
        .map(|mhz| mhz * KHZ_IN_MHZ)
}

/// Reads the counter and the clock; of several readings the one during which the counter went the least on.
fn at_once() -> Option<(u64, Instant)> {
    let mut best: Option<(u64, u64, Instant)> = None;
    for _ in 0..READINGS {
        let before = super::ffi::ticks()?;
        let now = Instant::now();
        let took = super::ffi::ticks()?.checked_sub(before)?;
        if best.is_none_or(|(least, ..)| took < least) {
            best = Some((took, before + took / 2, now));
        }
    }
    best.map(|(_, ticks, now)| (ticks, now))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_same_each_time_within_a_thousandth() {
        let Some(first) = super::measure() else {
            // No counter that tells the time.
            return;
        };
        assert!((100_000..20_000_000).contains(&first), "{first}");
        for _ in 0..5 {
            let again = super::measure().expect("there was one");
            assert!(again.abs_diff(first) * 1000 <= first, "{again} {first}");
        }
    }
}
