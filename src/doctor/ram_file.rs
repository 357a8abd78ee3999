//! What memory in a file costs a guest: a payload writes to each page of its memory, in a file of the pool and without one.

use std::path::Path;
use std::time::Duration;

use super::payload;
use crate::model::AcceleratorChoice;

/// Memory of the machine that writes.
const MEMORY_MIB: u32 = 256;

/// Where it writes from, and to: everything above its own code.
const FROM: u32 = 2 << 20;
const TO: u32 = (MEMORY_MIB - 1) << 20;

/// Where a multiboot loader puts the payload.
const LOAD: u32 = 1 << 20;

/// Each is measured so often, and the shortest counts.
const ROUNDS: u32 = 3;

/// How fast a guest writes to memory that it has not written before, in MiB a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Price {
    /// In a file.
    pub(super) file: u64,
    /// Without one.
    pub(super) anonymous: u64,
}

/// A multiboot image that adds one to the first byte of each page from [`FROM`] to `to`, and ends.
fn image(to: u32) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    // The addresses are in the header.
    const FLAGS: u32 = 1 << 16;
    const HEADER_BYTES: u32 = 32;
    let mut code = vec![0xbf]; // mov edi, FROM
    code.extend(FROM.to_le_bytes());
    code.extend([0xfe, 0x07]); // inc byte [edi]
    code.extend([0x81, 0xc7, 0x00, 0x10, 0x00, 0x00]); // add edi, 4096
    code.extend([0x81, 0xff]); // cmp edi, to
    code.extend(to.to_le_bytes());
    code.extend([0x72, 0xf0]); // jb -16
    code.extend([0xb0, 0x10, 0xe6, 0xf4, 0xf4]); // mov al, 0x10; out 0xf4, al; hlt
    let end = LOAD + HEADER_BYTES + u32::try_from(code.len()).unwrap_or(0);
    let sum = 0u32.wrapping_sub(MAGIC).wrapping_sub(FLAGS);
    let header = [MAGIC, FLAGS, sum, LOAD, LOAD, end, end, LOAD + HEADER_BYTES];
    let mut image: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    image.extend(code);
    image
}

async fn run(
    accelerator: AcceleratorChoice,
    backend: String,
    to: u32,
) -> std::io::Result<Duration> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), image(to))?;
    let machine = [
        "-machine".to_owned(),
        "q35,memory-backend=m".to_owned(),
        "-m".to_owned(),
        MEMORY_MIB.to_string(),
        "-object".to_owned(),
        backend,
        "-kernel".to_owned(),
        file.path().display().to_string(),
    ];
    let ran = payload::run(accelerator, &machine).await;
    ran.ok_or_else(|| std::io::Error::other("the machine that writes did not end"))
}

/// Measures on the pool's file system.
pub(super) async fn measure(accelerator: AcceleratorChoice, pool: &Path) -> std::io::Result<Price> {
    let directory = tempfile::tempdir_in(pool)?;
    let anonymous = format!("memory-backend-ram,id=m,size={MEMORY_MIB}M");
    let file = format!(
        "memory-backend-file,id=m,size={MEMORY_MIB}M,share=on,mem-path={}",
        directory.path().join("ram").display()
    );
    // Other work on this machine only makes a run longer.
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        // Starting and firmware are in all of them.
        let runs = [(&anonymous, FROM + 1), (&anonymous, TO), (&file, TO)];
        for (best, (backend, to)) in best.iter_mut().zip(runs) {
            *best = run(accelerator, backend.clone(), to).await?.min(*best);
        }
    }
    let [idle, anonymous, file] = best;
    let rate = |took: Duration| {
        let writing = took.saturating_sub(idle).as_millis().max(1);
        u64::try_from(u128::from((TO - FROM) >> 20) * 1000 / writing).unwrap_or(u64::MAX)
    };
    Ok(Price {
        anonymous: rate(anonymous),
        file: rate(file),
    })
}
