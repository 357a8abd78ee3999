//! A load of memory: `twin-guest dirty MIB MIB_PER_SECOND` writes to all of its pages, says how fast that went, and goes on
//! writing page by page at that rate for ever; 0 only holds them. With `lines` instead of a rate it writes to all of them
//! again for each line that it reads, says each time how fast, and ends with its input.

use std::io::Write;
use std::time::{Duration, Instant};

const PAGE_BYTES: usize = 4096;

/// Pages are written in bursts of this length.
const BURST: Duration = Duration::from_millis(20);

/// What follows the first time.
enum Then {
    Lines,
    Rate(usize),
}

fn parse(arguments: &[String]) -> Option<(usize, Then)> {
    let [mib, then] = arguments else {
        return None;
    };
    let then = match then.as_str() {
        "lines" => Then::Lines,
        rate => Then::Rate(rate.parse().ok()?),
    };
    Some((mib.parse().ok()?, then))
}

/// Writes to each page and says how fast: `first 812 MiB/s`.
fn over_all(memory: &mut [u8], word: &str) -> Result<(), String> {
    let from = Instant::now();
    for page in memory.chunks_mut(PAGE_BYTES) {
        page[0] = page[0].wrapping_add(1);
    }
    std::hint::black_box(&*memory);
    let took_us = from.elapsed().as_micros().max(1);
    let mib = u128::try_from(memory.len() >> 20).unwrap_or(0);
    writeln!(
        std::io::stdout(),
        "{word} {} MiB/s",
        mib * 1_000_000 / took_us
    )
    .and_then(|()| std::io::stdout().flush())
    .map_err(|error| format!("dirty: {error}"))
}

/// Writes.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let Some((mib, then)) = parse(arguments) else {
        return Err("dirty takes MIB and MIB_PER_SECOND or lines".into());
    };
    let mut memory = vec![0u8; mib << 20];
    over_all(&mut memory, "first")?;
    let rate = match then {
        Then::Lines => {
            return std::io::stdin()
                .lines()
                .try_for_each(|_| over_all(&mut memory, "again"));
        }
        Then::Rate(rate) => rate,
    };
    let pages = memory.len() / PAGE_BYTES;
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
