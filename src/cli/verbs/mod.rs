//! One file a verb.

pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod cp;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod exec;
pub(crate) mod halt;
pub(crate) mod power;
pub(crate) mod recover;
pub(crate) mod release;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod runs;
pub(crate) mod scenario;
pub(crate) mod schema;
pub(crate) mod snapshot;
pub(crate) mod snapshots;
pub(crate) mod status;
pub(crate) mod up;
