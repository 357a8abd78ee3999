//! Locks that another state directory or URI does not escape: named by the lab's UUID, in a directory of root's own.
//!
//! ```text
//!   open beneath /run/twin/lock ──> flock ──> is the name still this file's? ──yes──> held
//!            ^                                        │ no: it was swapped
//!            └────────────────────────────────────────┘
//! ```

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use uuid::Uuid;

use crate::clock::Clock;
use crate::storage;

/// Where locks are. /run/lock is no place for them: everybody can write there, and so make the directory first.
const DIRECTORY: &str = "/run/twin/lock";

/// Whose it is alone.
const DIRECTORY_MODE: u32 = 0o700;

/// How long is waited for the machine's lock, which is held for the moments in which addresses are chosen.
const MACHINE_DEADLINE: Duration = Duration::from_secs(60);

/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How often a file that is swapped while it is locked is opened anew.
const SWAPS: u32 = 8;

/// What is read of a holder's own words.
const HOLDER_BYTES: u64 = 4096;

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{what} is being changed by {holder}")]
    Held {
        /// The lab, or this machine.
        what: String,
        /// Who has it, as they wrote down.
        holder: String,
    },
    /// It was held, and its file was removed or swapped: another twin may hold one of the same name.
    #[error("the lock of {what} was taken away while it was held: {path} is gone, or another file")]
    Lost {
        /// The lab, or this machine.
        what: String,
        /// The file.
        path: PathBuf,
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
            Self::Lost { .. } => {
                "see that nothing removes files below /run/twin, then run the same command again"
                    .into()
            }
            Self::Io { source, path } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                let own = rustix::process::geteuid().is_root();
                if own {
                    let directory = path.parent().unwrap_or(path).display();
                    format!(
                        "see who made {directory}, and remove it: it has to be root's, with mode 0700"
                    )
                } else {
                    "run as root".into()
                }
            }
            Self::Io { .. } => "see that /run/twin can be made and written to".into(),
        }
    }
}

/// A lock; dropping it, or dying, gives it up.
#[derive(Debug)]
pub struct Lock {
    file: File,
    directory: OwnedFd,
    path: PathBuf,
    what: String,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io { path, source }
}

/// Takes a lock that another process holds, once that lets it go.
async fn wait_for(
    take: impl Fn() -> Result<Lock, LockError>,
    deadline: Duration,
    clock: &dyn Clock,
) -> Result<Lock, LockError> {
    let until = clock.elapsed() + deadline;
    loop {
        match take() {
            Err(LockError::Held { .. }) if clock.elapsed() < until => {
                clock.sleep(RETRY_PAUSE).await;
            }
            other => return other,
        }
    }
}

impl Lock {
    /// Takes a lab's lock, or tells who has it.
    pub fn lab(lab: Uuid, name: &str, verb: &str, clock: &dyn Clock) -> Result<Self, LockError> {
        Self::lab_in(Path::new(DIRECTORY), lab, name, (verb, clock))
    }

    /// Takes a lab's lock in another directory of locks, as tests do.
    pub fn lab_in(
        directory: &Path,
        lab: Uuid,
        name: &str,
        (verb, clock): (&str, &dyn Clock),
    ) -> Result<Self, LockError> {
        let what = format!("lab {name}");
        Self::take(directory, &lab.to_string(), &what, (verb, clock))
    }

    /// Takes the lock under which addresses and bridge names are chosen, waiting for it.
    pub async fn machine(verb: &str, clock: &dyn Clock) -> Result<Self, LockError> {
        let take = || {
            Self::take(
                Path::new(DIRECTORY),
                "machine",
                "this machine",
                (verb, clock),
            )
        };
        wait_for(take, MACHINE_DEADLINE, clock).await
    }

    /// Takes the lock of a lab that is twin's own, waiting for another twin that is at it.
    pub async fn own_lab(
        lab: Uuid,
        name: &str,
        verb: &str,
        (deadline, clock): (Duration, &dyn Clock),
    ) -> Result<Self, LockError> {
        wait_for(|| Self::lab(lab, name, verb, clock), deadline, clock).await
    }

    fn take(
        directory: &Path,
        name: &str,
        what: &str,
        (verb, clock): (&str, &dyn Clock),
    ) -> Result<Self, LockError> {
        let opened = directory_of_locks(directory)?;
        let path = directory.join(name);
        for _ in 0..SWAPS {
            let mut file = open(&opened, name).map_err(io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = read_holder(&mut file);
                    let what = what.to_owned();
                    return Err(LockError::Held { what, holder });
                }
                Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
            }
            let lock = Self {
                file,
                directory: opened.try_clone().map_err(io(&path))?,
                path: path.clone(),
                what: what.to_owned(),
            };
            // Another file may have got the name between the two calls.
            if lock.check().is_err() {
                continue;
            }
            return lock.sign(verb, clock).map_err(io(&path));
        }
        let what = what.to_owned();
        Err(LockError::Lost { what, path })
    }

    /// Writes down who holds it.
    fn sign(mut self, verb: &str, clock: &dyn Clock) -> std::io::Result<Self> {
        let since = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let process = std::process::id();
        let holder = format!("`twin {verb}` (process {process}, since {since})\n");
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(holder.as_bytes())?;
        Ok(self)
    }

    /// Whether it is still held: its name still leads to the file that is locked.
    pub fn check(&self) -> Result<(), LockError> {
        let lost = || LockError::Lost {
            what: self.what.clone(),
            path: self.path.clone(),
        };
        let own = self.file.metadata().map_err(io(&self.path))?;
        let name = self.path.file_name().unwrap_or_default();
        let there = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| lost())?;
        if (there.st_dev, there.st_ino) == (own.dev(), own.ino()) {
            Ok(())
        } else {
            Err(lost())
        }
    }
}

/// Opens the directory of locks, making it where it is not there; refuses one that another user owns or can write to.
fn directory_of_locks(directory: &Path) -> Result<OwnedFd, LockError> {
    let above = directory.parent().unwrap_or(directory);
    for path in [above, directory] {
        match std::os::unix::fs::DirBuilderExt::mode(
            &mut std::fs::DirBuilder::new(),
            DIRECTORY_MODE,
        )
        .create(path)
        {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(path)(error)),
        }
        storage::owned_directory(path).map_err(io(path))?;
    }
    storage::owned_directory(directory).map_err(io(directory))
}

fn open(directory: &OwnedFd, name: &str) -> std::io::Result<File> {
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("it is not a regular file"))
    }
}

fn read_holder(file: &mut File) -> String {
    let mut holder = String::new();
    // A holder that has not written yet is named as such.
    let _ = file.take(HOLDER_BYTES).read_to_string(&mut holder);
    if holder.trim().is_empty() {
        return "another twin".to_owned();
    }
    holder.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::SystemClock;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let above = tempfile::tempdir().expect("a directory");
        let path = above.path().join("twin/lock");
        (above, path)
    }

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let (_above, path) = directory();
        let take = |verb: &str| Lock::take(&path, "l", "lab tiny", (verb, &SystemClock::default()));
        let held = take("up").expect("free");
        let held_by = take("destroy").expect_err("held");
        assert!(held_by.is_by("up") && !held_by.is_by("recover"));
        let refused = held_by.to_string();
        assert!(
            refused.contains("`twin up`") && refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(held);
        assert!(take("destroy").is_ok());
    }

    #[tokio::test]
    async fn a_lock_that_is_waited_for_is_had_once_it_is_let_go_and_refused_where_it_is_not() {
        let (_above, path) = directory();
        let take = || {
            Lock::take(
                &path,
                "l",
                "lab twin-self-test",
                ("self-test", &SystemClock::default()),
            )
        };
        let clock = SystemClock::default();
        let held = take().expect("free");
        let short = Duration::from_millis(120);
        let refused = wait_for(take, short, &clock).await.expect_err("held");
        assert!(refused.is_by("self-test"), "{refused}");
        let waits = wait_for(take, Duration::from_secs(30), &clock);
        let lets_go = async {
            clock.sleep(short).await;
            drop(held);
        };
        let (had, ()) = tokio::join!(waits, lets_go);
        assert!(had.is_ok(), "{had:?}");
    }

    #[test]
    fn b2_a_lock_is_a_private_file_in_a_private_directory_whatever_the_umask() {
        let (_above, path) = directory();
        let _held =
            Lock::take(&path, "l", "lab tiny", ("up", &SystemClock::default())).expect("free");
        let mode = |path: &Path| {
            let found = std::fs::metadata(path).expect("there");
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("l")) & 0o177, 0);
    }

    #[test]
    fn b2_a_link_in_the_place_of_a_lock_is_not_followed() {
        let (above, path) = directory();
        drop(
            Lock::take(&path, "other", "lab tiny", ("up", &SystemClock::default())).expect("free"),
        );
        let victim = above.path().join("victim");
        std::fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, path.join("l")).expect("linked");
        assert!(Lock::take(&path, "l", "lab tiny", ("up", &SystemClock::default())).is_err());
        std::os::unix::fs::symlink(above.path().join("absent"), path.join("n")).expect("linked");
        assert!(Lock::take(&path, "n", "lab tiny", ("up", &SystemClock::default())).is_err());
        assert_eq!(std::fs::read(&victim).expect("read"), b"precious");
        assert!(!above.path().join("absent").exists());
    }

    #[test]
    fn b2_a_directory_that_another_user_made_first_is_refused() {
        let (_above, path) = directory();
        std::fs::create_dir_all(&path).expect("made");
        let open = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        open(0o777).expect("set");
        let error = Lock::take(&path, "l", "lab tiny", ("up", &SystemClock::default()))
            .expect_err("open to others");
        assert!(error.to_string().contains("can write to"), "{error}");
        open(0o700).expect("set");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).expect("given");
            let error = Lock::take(&path, "l", "lab tiny", ("up", &SystemClock::default()))
                .expect_err("another's");
            assert!(error.to_string().contains("65534"), "{error}");
        }
    }

    #[test]
    fn b2_a_lock_that_is_removed_or_swapped_while_it_is_held_is_noticed() {
        let (_above, path) = directory();
        let held =
            Lock::take(&path, "l", "lab tiny", ("up", &SystemClock::default())).expect("free");
        assert!(held.check().is_ok());
        std::fs::remove_file(path.join("l")).expect("removed");
        assert!(matches!(held.check(), Err(LockError::Lost { .. })));
        let second = Lock::take(&path, "l", "lab tiny", ("destroy", &SystemClock::default()))
            .expect("a file of its own");
        assert!(held.check().is_err() && second.check().is_ok());
    }
}
