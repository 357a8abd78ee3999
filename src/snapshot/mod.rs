//! Baselines: one cut across all hosts of a lab, and the way back to it.
//!
//! ```text
//!  create   preflight ─ write back ─┬ pause all ─ capture all ─ resume all ┬─ hash ─ commit (one rename)
//!  restore  check ──────────────────┴ pause all ─ memory, load ─ resume all ┴─ all answer ─ clocks
//! ```
//!
//! A host's disks hold its device state and their own content in an internal snapshot; memory is a file beside the
//! manifest that shares its blocks with the live one (see [`Rung`] for what is done where that cannot be). A baseline exists
//! exactly when its manifest does. What is done is journalled, so that [`recover`] can finish what a dead twin began.

mod catalog;
mod choice;
mod compare;
mod create;
mod error;
mod files;
mod gates;
mod manifest;
mod nested;
mod preflight;
mod recover;
mod restore;
mod rung;
mod self_test;
mod set;
mod verify;

pub use catalog::{Listed, list, names, of_runs, remove, show, shown, that_need, total};
pub use choice::best_rung;
pub use compare::differences;
pub use create::{Created, Request, create};
pub use error::SnapshotError;
pub use manifest::{DiskRecord, FileRecord, HostRecord, Manifest};
pub use recover::{Finished, recover, unfinished, unfinished_but_restores};
pub use restore::{Clocks, Options, Restored, RestoredHost, restore};
pub use rung::Rung;
pub use self_test::{SelfTest, self_test};
pub use set::Set;
pub use verify::{check, need_another_emulator, verify};

/// The name of the baseline that a run of a scenario takes before its first step.
pub fn before_run(run: &str) -> String {
    format!("run-{run}")
}
