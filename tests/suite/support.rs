//! What tests of several subjects share.

use std::path::{Path, PathBuf};

use twin::diagnostics::Source;
use twin::journal::Journal;
use twin::scenario::{RunEvent, RunResult};
use twin::topology::Lookup;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What comes of `work`; nothing where its journal had it die.
pub(crate) async fn unless_it_dies<T>(work: impl Future<Output = T>) -> Option<T> {
    let ended = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(work)).await;
    match ended {
        Ok(ended) => Some(ended),
        Err(why) if why.is::<twin::journal::Died>() => None,
        Err(why) => std::panic::resume_unwind(why),
    }
}

/// The events of a run that are in the journal.
pub(crate) fn events(journal: &Journal, run: &str) -> Vec<RunEvent> {
    let lines = journal.events(run).unwrap();
    let read = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(read).collect()
}

/// That what came of a run can be told from its events in the journal.
pub(crate) fn is_on_record(journal: &Journal, result: &RunResult) {
    let told = RunResult::of(events(journal, &result.run));
    assert_eq!(told.as_ref(), Some(result));
}

/// A directory in memory, where there is such a place: what is written to its journals waits for no disk.
pub(crate) fn quick_directory() -> tempfile::TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("a directory")
}

/// Text of a stream.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Finds topologies in a folder, then among those of the repository.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Lookup for Folder {
    fn find(&self, name: &str, _: Option<&str>) -> Option<Source> {
        let file = if name.ends_with(".yaml") {
            name.to_owned()
        } else {
            format!("{name}.yaml")
        };
        let places = [self.0.join(&file), root().join("topologies").join(&file)];
        let text = places
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())?;
        Some(Source { name: file, text })
    }

    fn names(&self) -> Vec<String> {
        vec!["testcloud".into(), "tiny".into()]
    }
}
