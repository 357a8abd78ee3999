//! Locks that another state directory does not escape: named by machine and lab, under /run/lock/twin.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;

/// Where locks are.
const DIRECTORY: &str = "/run/lock/twin";

/// How long is waited for the machine's lock, which is held for the moments in which addresses are chosen.
const MACHINE_DEADLINE: Duration = Duration::from_secs(60);

/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{what} is being changed by {holder}")]
    Held {
        /// The lab, or this machine.
        what: String,
        /// Who has it, as they wrote down.
        holder: String,
    },
    /// The file cannot be made.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LockError {
    /// Whether it is held by one who carries `verb` out.
    pub fn is_by(&self, verb: &str) -> bool {
        matches!(self, Self::Held { holder, .. } if holder.starts_with(&format!("`twin {verb}`")))
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Held { .. } => {
                "wait until it has ended, or end it with Ctrl-C; then run the same command again"
                    .into()
            }
            Self::Io { .. } => "run as root".into(),
        }
    }
}

/// A lock; dropping it, or dying, gives it up.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io { path, source }
}

impl Lock {
    /// Takes a lab's lock, or tells who has it.
    pub fn lab(machine: Uuid, lab: Uuid, name: &str, verb: &str) -> Result<Self, LockError> {
        Self::take(&format!("{machine}-{lab}"), &format!("lab {name}"), verb)
    }

    /// Takes the lock under which addresses and bridge names are chosen, waiting for it.
    pub async fn machine(machine: Uuid, verb: &str, clock: &dyn Clock) -> Result<Self, LockError> {
        let until = clock.elapsed() + MACHINE_DEADLINE;
        loop {
            match Self::take(&machine.to_string(), "this machine", verb) {
                Err(LockError::Held { .. }) if clock.elapsed() < until => {
                    clock.sleep(RETRY_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    fn take(name: &str, what: &str, verb: &str) -> Result<Self, LockError> {
        let directory = Path::new(DIRECTORY);
        std::fs::create_dir_all(directory).map_err(io(directory))?;
        let path = directory.join(name);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A holder that has not written yet is named as such.
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() {
                    "another twin".to_owned()
                } else {
                    holder.trim().to_owned()
                };
                return Err(LockError::Held {
                    what: what.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
        }
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let holder = format!(
            "`twin {verb}` (process {}, since {since})\n",
            std::process::id()
        );
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(io(&path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let (machine, lab) = (Uuid::new_v4(), Uuid::new_v4());
        let held = Lock::lab(machine, lab, "tiny", "up").expect("free");
        let held_by = Lock::lab(machine, lab, "tiny", "destroy").expect_err("held");
        assert!(held_by.is_by("up") && !held_by.is_by("recover"));
        let refused = held_by.to_string();
        assert!(
            refused.contains("`twin up`") && refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(held);
        assert!(Lock::lab(machine, lab, "tiny", "destroy").is_ok());
        let _ = std::fs::remove_file(Path::new(DIRECTORY).join(format!("{machine}-{lab}")));
    }
}
