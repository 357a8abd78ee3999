//! The debug log of each run, below the state directory that has the lab.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::clock::{Clock, SystemClock};

/// How many logs are kept.
const KEPT: usize = 30;

/// What is logged: this program's own events, or those of its libraries as well.
const OWN: &str = "twin=debug";
const ALL: &str = "debug";

/// What is kept in memory until it is known where the log belongs.
const EARLY_BYTES: usize = 1 << 20;

/// Members of the group libvirt may read logs.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// The log of this process.
struct Log {
    verb: &'static str,
    early: Vec<u8>,
    file: Option<File>,
}

static LOG: OnceLock<Mutex<Log>> = OnceLock::new();

fn log() -> Option<MutexGuard<'static, Log>> {
    let log = LOG.get()?;
    Some(log.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes to the file, or to memory before there is one.
struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(mut log) = log() {
            let room = EARLY_BYTES.saturating_sub(log.early.len());
            match &mut log.file {
                Some(file) => file.write_all(bytes)?,
                None => log.early.extend_from_slice(&bytes[..bytes.len().min(room)]),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts the log of a verb that leaves one, and writes it to standard error too where more detail is asked for. The file is
/// made by [`begin`].
pub(crate) fn start(verb: Option<&'static str>, verbose: u8) {
    let filter = |otherwise: &str| {
        EnvFilter::try_from_env("TWIN_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise))
    };
    let to_file = verb.map(|verb| {
        let (early, file) = (Vec::new(), None);
        // A second one in one process is a test's; the first one stays.
        let _ = LOG.set(Mutex::new(Log { verb, early, file }));
        fmt::layer()
            .with_ansi(false)
            .with_writer(|| Writer)
            .with_filter(filter(OWN))
    });
    let to_error = (verbose > 0).then(|| {
        fmt::layer()
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .with_filter(filter(if verbose > 1 { ALL } else { OWN }))
    });
    // A second subscriber in one process is a test's; the first one stays.
    let _ = tracing_subscriber::registry()
        .with(to_file)
        .with(to_error)
        .try_init();
}

/// Makes the log's file in the state directory `state`, with what was logged so far. Where the directory cannot be written
/// there is none: a verb that only reads still works. Once it is made, another call does nothing.
pub(crate) fn begin(state: &Path) {
    let Some(mut log) = log() else { return };
    if log.file.is_some() {
        return;
    }
    if !state.exists() {
        return;
    }
    let Some(mut file) = create(&state.join("log"), log.verb) else {
        return;
    };
    let early = std::mem::take(&mut log.early);
    // A log that cannot be written is no reason to stop.
    let _ = file.write_all(&early);
    log.file = Some(file);
}

fn create(directory: &Path, verb: &str) -> Option<File> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory);
    made.ok()?;
    rotate(directory);
    let now = SystemClock::default()
        .now()
        .strftime("%Y%m%dT%H%M%S")
        .to_string();
    let name = format!("{now}-{verb}-{}.log", std::process::id());
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(directory.join(name))
        .ok()
}

fn rotate(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let mut logs: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
        .collect();
    logs.sort();
    let surplus = (logs.len() + 1).saturating_sub(KEPT);
    for old in logs.into_iter().take(surplus) {
        // Another twin may have removed it a moment ago.
        let _ = std::fs::remove_file(old);
    }
}
