//! What a probe is.

use std::fmt::Debug;

use async_trait::async_trait;
use regex::Regex;

use crate::diagnostics::{Fields, Reader};
use crate::scenario::Evidence;
use crate::scenario::{ActionError, World};

/// What has been seen when a probe is asked.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the scheduler refused, by step.
    pub refused: Vec<(String, String)>,
    /// The steps that have ended.
    pub done: Vec<String>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It fired.
    Fired(Vec<Evidence>),
    /// It has not fired so far.
    Quiet,
}

/// Something that can be looked at, with its arguments.
#[async_trait]
pub trait Probe: Debug + Send + Sync {
    /// Remembers where things stand before the first step.
    async fn begin(&self, world: &World) -> Result<serde_json::Value, ActionError>;

    /// Finds out whether it could begin; changes nothing.
    async fn check(&self, world: &World) -> Result<(), ActionError> {
        self.begin(world).await.map(drop)
    }

    /// Looks.
    async fn look(
        &self,
        world: &World,
        begun: &serde_json::Value,
        seen: &Seen,
    ) -> Result<Finding, ActionError>;
}

/// Reads the key `matches`, where it is given; one that is no regular expression is told by the reader.
pub(super) fn matches_of(fields: &mut Fields<'_>, reader: &mut Reader) -> Option<Regex> {
    let node = fields.optional("matches")?;
    reader.scalar(node, "regular expression")
}

pub(super) fn evidence(source: impl Into<String>, text: impl Into<String>) -> Evidence {
    Evidence {
        source: source.into(),
        text: text.into(),
    }
}
