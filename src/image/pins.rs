//! The hashes of image files that lie elsewhere than in the store: what each was when disks were first made on it.
//!
//! A file is read as a whole only where its size, inode or time of change are not what they were. libvirt gives files to QEMU's
//! user and back at each start: the time at which that was done says nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::hash::sha256_of;
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
        let _lock = self.lock()?;
        let reading = || ImageError::io(format!("reading {}", path.display()));
        let mut pins = self.read()?;
        let known = pins.get(path).cloned();
        let stamp = Stamp::of(path).map_err(reading())?;
        let sha256 = match &known {
            Some(pin) if pin.stamp == stamp => pin.sha256.clone(),
            _ => sha256_of(path)?,
        };
        asked_for(path, wanted, &sha256)?;
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
        self.write(&pins)
    }

    /// Checks a file that disks lie on, where it is pinned: one that is not is the store's own, or of an older twin's lab.
    pub(super) fn check_known(&self, path: &Path) -> Result<(), ImageError> {
        if self.read()?.contains_key(path) {
            return self.check(path, None);
        }
        Ok(())
    }

    /// Checks a file whose disks are about to be discarded against the hash that is asked for, and nothing else: its pin holds
    /// until they are.
    pub(super) fn check_wanted(path: &Path, wanted: Option<&str>) -> Result<(), ImageError> {
        match wanted {
            Some(_) => asked_for(path, wanted, &sha256_of(path)?),
            None => Ok(()),
        }
    }

    /// Pins a file as it is now, where it is pinned: the disks on it were discarded.
    pub(super) fn renew(&self, path: &Path) -> Result<(), ImageError> {
        if !self.read()?.contains_key(path) {
            return Ok(());
        }
        self.forget(path)?;
        self.check(path, None)
    }

    /// Forgets a file: no disk lies on it any more.
    pub(super) fn forget(&self, path: &Path) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let mut pins = self.read()?;
        if pins.remove(path).is_none() {
            return Ok(());
        }
        self.write(&pins)
    }

    /// Keeps others out, of this process too, until it is dropped.
    fn lock(&self) -> Result<File, ImageError> {
        let path = self.file.with_extension("lock");
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let locked = opened.and_then(|file| file.lock().map(|()| file));
        locked.map_err(ImageError::io(format!("locking {}", path.display())))
    }

    fn write(&self, pins: &BTreeMap<PathBuf, Pin>) -> Result<(), ImageError> {
        let text = serde_json::to_vec_pretty(pins).unwrap_or_default();
        storage::write(&self.file, &text, 0o600)
            .map_err(ImageError::io(format!("writing {}", self.file.display())))
    }

    /// Pins that cannot be read are no reason to do without them.
    fn read(&self) -> Result<BTreeMap<PathBuf, Pin>, ImageError> {
        let read = match std::fs::read(&self.file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::from),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        read.map_err(ImageError::io(format!("reading {}", self.file.display())))
    }
}

fn asked_for(path: &Path, wanted: Option<&str>, found: &str) -> Result<(), ImageError> {
    match wanted.filter(|wanted| *wanted != found) {
        None => Ok(()),
        Some(wanted) => Err(ImageError::Hash {
            path: path.to_owned(),
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }),
    }
}
