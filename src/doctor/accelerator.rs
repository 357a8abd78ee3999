//! The timed accelerator probe.
//!
//! A /dev/kvm that opens, and even one that makes vCPUs, can still be useless: on one nested host a boot sector took 2.9 s
//! under KVM and 0.07 s under TCG (shared/facts.md 9). So a tiny payload is booted under each candidate, and the faster
//! one wins. The payload goes through the firmware, whose port accesses are what a bad KVM is slow at, and then counts,
//! which is what TCG is slow at.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::lab::{AcceleratorProbe, LabError};
use crate::model::AcceleratorChoice;
use crate::storage;

/// 16-bit code: `cli; mov ecx, 100000000; dec ecx; jnz -4; mov al, 0x10; out 0xf4, al; hlt`.
const CODE: [u8; 19] = [
    0xfa, 0x66, 0xb9, 0x00, 0xe1, 0xf5, 0x05, 0x66, 0x49, 0x75, 0xfc, 0xb0, 0x10, 0xe6, 0xf4, 0xf4,
    0xeb, 0xfd, 0x00,
];

/// What the probe found, and for which kernel and QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accelerators {
    kernel: String,
    qemu: String,
    /// Milliseconds under KVM, where it finished.
    pub kvm_ms: Option<u64>,
    /// Milliseconds under TCG, where it finished.
    pub tcg_ms: Option<u64>,
}

impl Accelerators {
    /// The faster one.
    pub fn choice(&self) -> Option<AcceleratorChoice> {
        match (self.kvm_ms, self.tcg_ms) {
            (Some(kvm), Some(tcg)) if kvm <= tcg => Some(AcceleratorChoice::Kvm),
            (Some(_), None) => Some(AcceleratorChoice::Kvm),
            (_, Some(_)) => Some(AcceleratorChoice::Tcg),
            (None, None) => None,
        }
    }
}

/// The probe, with its cache.
#[derive(Clone, Debug)]
pub struct TimedProbe {
    cache: PathBuf,
    keep: bool,
}

impl TimedProbe {
    /// Makes a probe that remembers in `cache`; with `keep` false it only reads there.
    pub const fn new(cache: PathBuf, keep: bool) -> Self {
        Self { cache, keep }
    }

    /// Returns what is remembered for this kernel and QEMU, else boots the payload under each.
    pub async fn look(&self) -> Result<Accelerators, LabError> {
        let none = |why: String| LabError::NoAccelerator { why };
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned();
        let version = Command::new("qemu-system-x86_64")
            .arg("--version")
            .kill_on_drop(true)
            .output()
            .await;
        let version =
            version.map_err(|error| none(format!("qemu-system-x86_64 does not run: {error}")))?;
        let qemu = String::from_utf8_lossy(&version.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let remembered: Option<Accelerators> = std::fs::read(&self.cache)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(known) = remembered.filter(|known| known.kernel == kernel && known.qemu == qemu)
        {
            return Ok(known);
        }
        let payload = payload().map_err(LabError::io("writing the probe's boot sector"))?;
        let kvm_ms = if Path::new("/dev/kvm").exists() {
            boot(AcceleratorChoice::Kvm, payload.path()).await
        } else {
            None
        };
        let tcg_ms = boot(AcceleratorChoice::Tcg, payload.path()).await;
        let found = Accelerators {
            kernel,
            qemu,
            kvm_ms,
            tcg_ms,
        };
        if self.keep && found.choice().is_some() {
            let text = serde_json::to_vec_pretty(&found).unwrap_or_default();
            if let Some(parent) = self.cache.parent().filter(|parent| !parent.exists()) {
                storage::make_passage(parent)
                    .map_err(LabError::io(format!("making {}", parent.display())))?;
            }
            storage::write_shared(&self.cache, &text)
                .map_err(LabError::io(format!("writing {}", self.cache.display())))?;
        }
        Ok(found)
    }
}

#[async_trait]
impl AcceleratorProbe for TimedProbe {
    async fn choose(&self) -> Result<AcceleratorChoice, LabError> {
        let found = self.look().await?;
        found.choice().ok_or_else(|| LabError::NoAccelerator {
            why: "the boot sector finished under neither KVM nor TCG".into(),
        })
    }
}

/// Writes the boot sector.
fn payload() -> std::io::Result<tempfile::NamedTempFile> {
    use std::io::Write;
    let mut sector = [0u8; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&sector)?;
    Ok(file)
}

/// Boots the payload; returns the milliseconds it took, where it came to its end in time.
async fn boot(accelerator: AcceleratorChoice, payload: &Path) -> Option<u64> {
    let machine = [
        "-m".to_owned(),
        "16".to_owned(),
        "-drive".to_owned(),
        format!("file={},format=raw,if=ide,snapshot=on", payload.display()),
    ];
    let took = super::payload::run(accelerator, &machine).await?;
    Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_accelerator_wins_and_one_that_hangs_never_does() {
        let found = |kvm_ms, tcg_ms| {
            Accelerators {
                kernel: String::new(),
                qemu: String::new(),
                kvm_ms,
                tcg_ms,
            }
            .choice()
        };
        assert_eq!(found(Some(90), Some(400)), Some(AcceleratorChoice::Kvm));
        assert_eq!(found(Some(2900), Some(400)), Some(AcceleratorChoice::Tcg));
        assert_eq!(found(None, Some(400)), Some(AcceleratorChoice::Tcg));
        assert_eq!(found(Some(90), None), Some(AcceleratorChoice::Kvm));
        assert_eq!(found(None, None), None);
    }
}
