//! What every probe uses.

pub(super) use schemars::JsonSchema;
pub(super) use serde::{Deserialize, Serialize};

pub(super) use super::contract::{Finding, Probe, Seen, evidence};
pub(super) use crate::scenario::arguments::Mistake;
pub(super) use crate::scenario::{FaultError, World};
pub(super) use crate::units::Name;
