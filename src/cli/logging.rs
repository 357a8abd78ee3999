//! The debug log of each run, below the state directory.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How many logs are kept.
const KEPT: usize = 30;

/// What is logged: this program's own events, or those of its libraries as well.
const OWN: &str = "twin=debug";
const ALL: &str = "debug";

/// Starts the log of a verb that leaves one, and writes it to standard error too where more detail is asked for. Where the
/// directory cannot be written there is no file: a verb that only reads still works.
pub(crate) fn start(state: &Path, verb: Option<&str>, verbose: u8) {
    let filter = |otherwise: &str| {
        EnvFilter::try_from_env("TWIN_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise))
    };
    let file = verb.and_then(|verb| create(&state.join("log"), verb));
    let to_file = file.map(|file| {
        fmt::layer()
            .with_ansi(false)
            .with_writer(Mutex::new(file))
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

fn create(directory: &Path, verb: &str) -> Option<File> {
    std::fs::create_dir_all(directory).ok()?;
    rotate(directory);
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
    File::create(directory.join(format!("{now}-{verb}-{}.log", std::process::id()))).ok()
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
