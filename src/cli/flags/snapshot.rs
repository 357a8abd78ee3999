//! The flags of `twin snapshot`.

use clap::Args;

use crate::cli::consent::Yes;
use crate::model::Baseline;
use crate::snapshot::{Request, Rung};
use crate::units::Name;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The baseline's name.
    pub(crate) name: Name,
    /// Reads all of the baseline and tells what is not as it was.
    #[arg(long, conflicts_with_all = ["remove", "show", "note", "mode", "force"])]
    pub(crate) verify: bool,
    /// Removes the baseline.
    #[arg(long, conflicts_with_all = ["show", "note", "mode", "force"])]
    pub(crate) remove: bool,
    /// Shows the baseline.
    #[arg(long, conflicts_with_all = ["note", "mode", "force"])]
    pub(crate) show: bool,
    /// A remark to keep with it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// How it is taken; the best way that works when not given.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<Rung>,
    /// Takes it although the topology's gates do not hold.
    #[arg(long)]
    pub(crate) force: bool,
    /// Says what removing it would free, and changes nothing.
    #[arg(long, requires = "remove")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) yes: Yes,
}

fn mode(word: &str) -> Result<Rung, String> {
    Rung::ALL
        .into_iter()
        .find(|rung| rung.as_str() == word)
        .ok_or_else(|| "a mode is reflink, copy, stream or disks".into())
}

impl Flags {
    /// The baseline that is asked for, of those that the topology expects and in a lab of which this is not reverted.
    pub(crate) fn request(&self, expected: Vec<Baseline>, dirty: Vec<String>) -> Request {
        let mut expected = expected.into_iter().filter(|_| !self.force);
        let expected = expected.find(|expected| expected.name == self.name);
        Request {
            name: self.name.to_string(),
            note: self.note.clone(),
            mode: self.mode,
            gates: expected.map(|expected| expected.gates).unwrap_or_default(),
            dirty,
            ..Request::default()
        }
    }

    /// Whether something is changed, and not only read.
    pub(crate) const fn changes_something(&self) -> bool {
        !self.verify && !self.show && !self.dry_run
    }
}
