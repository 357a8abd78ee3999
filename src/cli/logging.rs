//! The debug log of each run, below the state directory.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

/// How many logs are kept.
const KEPT: usize = 30;

/// Starts the log of a verb. Where the directory cannot be written there is none: a verb that only reads still works.
pub(crate) fn start(state: &Path, verb: &str) {
    let directory = state.join("log");
    if std::fs::create_dir_all(&directory).is_err() {
        return;
    }
    rotate(&directory);
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
    let Ok(file) = File::create(directory.join(format!("{now}-{verb}-{}.log", std::process::id())))
    else {
        return;
    };
    let filter =
        EnvFilter::try_from_env("TWIN_LOG").unwrap_or_else(|_| EnvFilter::new("twin=debug"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .finish();
    // A second subscriber in one process is a test's; the first one stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
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
