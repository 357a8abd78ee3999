//! The JSON schemas.

use clap::ValueEnum;
use schemars::{Schema, schema_for};

use crate::{report, scenario, topology};

/// The schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Of `twin status`.
    Status,
    /// Of `twin up`.
    Up,
    /// Of `down`, `destroy`, `release` and `power`.
    Change,
    /// Of `twin exec`.
    Exec,
    /// Of `twin doctor`.
    Doctor,
    /// Of `twin scenario` without a name.
    Scenarios,
    /// Of a run's result.
    ScenarioResult,
    /// Of each line of `twin scenario --events`.
    ScenarioEvents,
    /// Of `twin runs`.
    Runs,
    /// Of `twin snapshot NAME`.
    Snapshot,
    /// Of `twin snapshots`.
    Snapshots,
    /// Of `twin snapshot NAME --show`.
    Baseline,
    /// Of `twin snapshot NAME --verify`.
    Verify,
    /// Of `twin restore`.
    Restore,
    /// Of `twin recover`.
    Recover,
    /// Of `twin halt`.
    Halt,
    /// Of any failure.
    Error,
    /// Of a topology file, for editors.
    Topology,
    /// Of a scenario file, for editors.
    Scenario,
}

pub(crate) fn schema(name: Name) -> String {
    let of = |schema: Schema| serde_json::to_string_pretty(&schema).unwrap_or_default();
    of(match name {
        Name::Topology => return topology::SCHEMA.trim_end().to_owned(),
        Name::Scenario => {
            return serde_json::to_string_pretty(&scenario::schema()).unwrap_or_default();
        }
        Name::Status => schema_for!(report::StatusDocument),
        Name::Up => schema_for!(report::UpDocument),
        Name::Change => schema_for!(report::ChangeDocument),
        Name::Exec => schema_for!(report::ExecDocument),
        Name::Doctor => schema_for!(report::DoctorDocument),
        Name::Scenarios => schema_for!(report::ScenariosDocument),
        Name::ScenarioResult => schema_for!(scenario::RunResult),
        Name::ScenarioEvents => schema_for!(scenario::RunEvent),
        Name::Runs => schema_for!(report::RunsDocument),
        Name::Snapshot => schema_for!(report::SnapshotDocument),
        Name::Snapshots => schema_for!(report::SnapshotsDocument),
        Name::Baseline => schema_for!(report::BaselineDocument),
        Name::Verify => schema_for!(report::VerifyDocument),
        Name::Restore => schema_for!(report::RestoreDocument),
        Name::Recover => schema_for!(report::RecoverDocument),
        Name::Halt => schema_for!(report::HaltDocument),
        Name::Error => schema_for!(report::ErrorDocument),
    })
}
