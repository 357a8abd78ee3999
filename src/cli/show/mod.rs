//! What verbs show: tables and documents.

pub(crate) mod baseline;
pub(crate) mod baselines;
pub(crate) mod change;
pub(crate) mod exec;
pub(crate) mod restore;
pub(crate) mod scenario;
pub(crate) mod scenarios;
pub(crate) mod schema;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod up;
