//! What an action is.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::scenario::{ActionError, World};

/// How an action went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whether it took effect.
    pub effective: bool,
    /// What was seen.
    pub seen: String,
    /// What an action that asked the scheduler was refused with.
    pub refused: Option<String>,
}

impl Verified {
    pub(super) fn new(effective: bool, seen: impl Into<String>) -> Self {
        Self {
            effective,
            seen: seen.into(),
            refused: None,
        }
    }
}

/// Something that can be done, with its arguments.
#[async_trait]
pub trait Action: Debug + Send + Sync {
    /// Its name in files and in the journal.
    fn name(&self) -> &'static str;

    /// What it is about to do, for people.
    fn describe(&self) -> String;

    /// The hosts that it acts on.
    fn hosts(&self) -> Vec<&str>;

    /// Reads what its undo needs, changing nothing. The undo sets this state; it never toggles.
    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError>;

    /// Does it, with what was captured; ends within `within`.
    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        within: Duration,
    ) -> Result<(), ActionError>;

    /// Looks whether it took effect.
    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError>;
}
