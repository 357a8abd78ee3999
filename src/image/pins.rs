//! The hashes of image files that lie elsewhere than in the store: what each was when disks were first made on it.
//!
//! A file is read as a whole only where its size, times or inode are not what they were.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::cloud::sha256_of;
use crate::storage;

/// The file with the pins, in the store.
const FILE: &str = "pins.json";

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    sha256: String,
    stamp: Stamp,
}

/// What changes when a file does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(path)?;
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
            changed_ns: nanoseconds(found.ctime(), found.ctime_nsec()),
        })
    }
}

/// The pins of a store.
pub(super) struct Pins {
    file: PathBuf,
}

impl Pins {
    /// The pins of the store in `directory`.
    pub(super) fn of(directory: &Path) -> Self {
        Self {
            file: directory.join(FILE),
        }
    }

    /// Checks a file against the hash that is asked for, or else against its pin; pins it where it has none. Reads all of a
    /// file that has changed; blocks.
    pub(super) fn check(&self, path: &Path, wanted: Option<&str>) -> Result<(), ImageError> {
        let reading = || ImageError::io(format!("reading {}", path.display()));
        let mut pins = self.read();
        let known = pins.get(path).cloned();
        let stamp = Stamp::of(path).map_err(reading())?;
        let sha256 = match &known {
            Some(pin) if pin.stamp == stamp => pin.sha256.clone(),
            _ => sha256_of(path)?,
        };
        if let Some(wanted) = wanted.filter(|wanted| **wanted != sha256) {
            return Err(ImageError::Hash {
                path: path.to_owned(),
                found: sha256,
                wanted: wanted.to_owned(),
            });
        }
        if let Some(pin) = &known
            && pin.sha256 != sha256
        {
            return Err(ImageError::Replaced {
                path: path.to_owned(),
                was: pin.sha256.clone(),
                is: sha256,
            });
        }
        let pin = Pin { sha256, stamp };
        if known.as_ref() == Some(&pin) {
            return Ok(());
        }
        pins.insert(path.to_owned(), pin);
        let text = serde_json::to_vec_pretty(&pins).unwrap_or_default();
        storage::write(&self.file, &text, 0o600)
            .map_err(ImageError::io(format!("writing {}", self.file.display())))
    }

    /// Checks a file that disks lie on, where it is pinned: one that is not is the store's own, or of an older twin's lab.
    pub(super) fn check_known(&self, path: &Path) -> Result<(), ImageError> {
        if self.read().contains_key(path) {
            return self.check(path, None);
        }
        Ok(())
    }

    /// Forgets a file: no disk lies on it any more.
    pub(super) fn forget(&self, path: &Path) -> Result<(), ImageError> {
        let mut pins = self.read();
        if pins.remove(path).is_none() {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&pins).unwrap_or_default();
        storage::write(&self.file, &text, 0o600)
            .map_err(ImageError::io(format!("writing {}", self.file.display())))
    }

    fn read(&self) -> BTreeMap<PathBuf, Pin> {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}
