//! What verbs show: tables and documents.

pub(crate) mod baseline;
pub(crate) mod scenario;
pub(crate) mod status;
pub(crate) mod up;
