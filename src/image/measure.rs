//! Booting an image once by itself, to see that it works and what memory it takes.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::ImageError;
use crate::model::AcceleratorChoice;
use crate::model::place::Overhead;
use crate::units::Mib;

/// A boot is given up after this.
const DEADLINE: Duration = Duration::from_secs(90);

/// What twin-guest writes to the kernel's log when it is up.
const UP: &str = "twin-guest: up, memory ";

/// The two sizes that are measured.
const SIZES: [Mib; 2] = [Mib(256), Mib(1280)];

/// One boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Until twin-guest said that it is up.
    pub took: Duration,
    /// `MemAvailable` at that moment.
    pub available_kib: u64,
}

/// Boots a kernel and initrd with `memory` until twin-guest says that it is up.
pub async fn boot_once(
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    memory: Mib,
    accelerator: AcceleratorChoice,
) -> Result<Boot, ImageError> {
    let started = Instant::now();
    let mut child = start(kernel, initrd, cmdline, memory, accelerator)?;
    let mut last = String::from("no output");
    let Some(stdout) = child.stdout.take() else {
        return Err(ImageError::Measure {
            why: "no console".into(),
        });
    };
    let mut lines = BufReader::new(stdout).split(b'\n');
    let wait = async {
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some((_, rest)) = line.split_once(UP) {
                return rest
                    .split_whitespace()
                    .nth(2)
                    .and_then(|word| word.parse().ok());
            }
            last = line;
        }
        None
    };
    let seen = tokio::time::timeout(DEADLINE, wait).await;
    // The guest has nothing to lose; an error means that it ended by itself.
    let _ = child.kill().await;
    match seen {
        Ok(Some(available_kib)) => Ok(Boot {
            took: started.elapsed(),
            available_kib,
        }),
        Ok(None) => Err(ImageError::Measure {
            why: format!("it ended; last words: {last}"),
        }),
        Err(_) => Err(ImageError::Measure {
            why: format!("not up within {DEADLINE:?}; last words: {last}"),
        }),
    }
}

/// Starts QEMU with a guest whose console is its standard output.
fn start(
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    memory: Mib,
    accelerator: AcceleratorChoice,
) -> Result<Child, ImageError> {
    let (accel, cpu) = match accelerator {
        AcceleratorChoice::Kvm => ("kvm", "host"),
        AcceleratorChoice::Tcg => ("tcg,thread=multi,tb-size=128", "max"),
    };
    Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "q35",
            "-accel",
            accel,
            "-cpu",
            cpu,
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .args(["-m", &memory.0.to_string(), "-append"])
        .arg(format!("{cmdline} loglevel=6"))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                ImageError::ToolMissing {
                    tool: "qemu-system-x86_64".into(),
                }
            } else {
                ImageError::Measure {
                    why: error.to_string(),
                }
            }
        })
}

/// Measures what the guest system takes for itself.
pub(super) async fn overhead(
    kernel: &Path,
    initrd: &Path,
    cmdline: &str,
    accelerator: AcceleratorChoice,
) -> Result<Overhead, ImageError> {
    let mut taken_kib = [0u64; 2];
    for (taken, size) in taken_kib.iter_mut().zip(SIZES) {
        let boot = boot_once(kernel, initrd, cmdline, size, accelerator).await?;
        *taken = (size.0 * 1024).saturating_sub(boot.available_kib);
    }
    let between_gib = (SIZES[1].0 - SIZES[0].0) / 1024;
    let per_gib_kib = taken_kib[1].saturating_sub(taken_kib[0]) / between_gib.max(1);
    let fixed_kib = taken_kib[0].saturating_sub(per_gib_kib * SIZES[0].0 / 1024);
    Ok(Overhead {
        fixed: Mib(fixed_kib.div_ceil(1024)),
        per_gib_kib,
    })
}
