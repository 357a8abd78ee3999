//! What every fault uses.

pub(super) use std::time::Duration;

pub(super) use schemars::JsonSchema;
pub(super) use serde::{Deserialize, Serialize};

pub(super) use super::contract::{Effectiveness, Fault, Prior};
pub(super) use crate::scenario::arguments::Mistake;
pub(super) use crate::scenario::footprint::{
    DISKS, Footprint, INSIDE, MACHINE, MEMORY, PLUGGED, SETTINGS,
};
pub(super) use crate::scenario::{FaultError, World};
pub(super) use crate::units::Name;
