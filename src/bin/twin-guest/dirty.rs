//! A load of memory: `twin-guest dirty MIB MIB_PER_SECOND` writes to its memory page by page, for ever. With a rate of 0
//! it writes once over all of it and prints how many MiB a second that were.

use std::io::Write;
use std::time::{Duration, Instant};

const PAGE_BYTES: usize = 4096;

/// Pages are written in bursts of this length.
const BURST: Duration = Duration::from_millis(20);

/// Writes.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let numbers: Result<Vec<usize>, _> = arguments.iter().map(|word| word.parse()).collect();
    let Ok([mib, rate]) = numbers.as_deref() else {
        return Err("dirty takes MIB MIB_PER_SECOND".into());
    };
    let mut memory = vec![0u8; mib << 20];
    let pages = memory.len() / PAGE_BYTES;
    if *rate == 0 {
        let from = Instant::now();
        for page in 0..pages {
            memory[page * PAGE_BYTES] = 1;
        }
        let took_ms = from.elapsed().as_millis().max(1);
        std::hint::black_box(&memory);
        let speed = u128::try_from(*mib).unwrap_or(0) * 1000 / took_ms;
        return writeln!(std::io::stdout(), "{speed}").map_err(|error| format!("dirty: {error}"));
    }
    let a_burst =
        (rate << 20) / PAGE_BYTES * usize::try_from(BURST.as_millis()).unwrap_or(1) / 1000;
    let (mut page, mut next) = (0, Instant::now());
    loop {
        for _ in 0..a_burst {
            memory[page * PAGE_BYTES] = memory[page * PAGE_BYTES].wrapping_add(1);
            page = (page + 1) % pages.max(1);
        }
        std::hint::black_box(&memory);
        next += BURST;
        // After a pause the rate goes on from now, and does not catch up.
        next = next.max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
