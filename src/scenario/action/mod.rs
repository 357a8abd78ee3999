//! What can be done to a lab. One file an action, and a line in [`ALL`].

mod compute_reserve;
mod instance_fill;
mod instance_touch;
mod service_run;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use super::error::ScenarioProblem;
use super::{ActionError, World};
use crate::diagnostics::{Key, Node, Reader, nearest};

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
    fn new(effective: bool, seen: impl Into<String>) -> Self {
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

type ParseFn = fn(&Node, &mut Reader) -> Option<Box<dyn Action>>;
type UndoFuture<'u> =
    std::pin::Pin<Box<dyn Future<Output = Result<String, ActionError>> + Send + 'u>>;
type UndoFn = for<'u> fn(&'u World, serde_json::Value) -> UndoFuture<'u>;

/// The actions: name, parser, undo.
const ALL: &[(&str, ParseFn, UndoFn)] = &[
    (
        compute_reserve::NAME,
        compute_reserve::parse,
        |world, captured| Box::pin(compute_reserve::undo(world, captured)),
    ),
    (
        instance_fill::NAME,
        instance_fill::parse,
        |world, captured| Box::pin(instance_fill::undo(world, captured)),
    ),
    (
        instance_touch::NAME,
        instance_touch::parse,
        |world, captured| Box::pin(instance_touch::undo(world, captured)),
    ),
    (service_run::NAME, service_run::parse, |world, captured| {
        Box::pin(service_run::undo(world, captured))
    }),
];

/// Reads an action from a file.
pub(super) fn parse(key: &Key, arguments: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    if let Some((_, parse, _)) = ALL.iter().find(|(name, _, _)| *name == key.text) {
        return parse(arguments, reader);
    }
    let known: Vec<&'static str> = ALL.iter().map(|(name, _, _)| *name).collect();
    let near = nearest(&key.text, known.iter().copied());
    reader.wrong(
        ScenarioProblem::UnknownAction {
            name: key.text.clone(),
            near,
            known,
        }
        .at(key.span),
    );
    None
}

/// Undoes an action from what the journal has of it; returns what was done.
pub(super) async fn undo(
    world: &World,
    action: &str,
    captured: &str,
) -> Result<String, ActionError> {
    let Some((_, _, undo)) = ALL.iter().find(|(name, _, _)| *name == action) else {
        return Err(ActionError::Target(format!(
            "this twin has no action {action}; use the one that made the run"
        )));
    };
    undo(world, serde_json::from_str(captured)?).await
}

/// Reads the key `host`.
pub(super) fn host_of(
    fields: &mut crate::diagnostics::Fields<'_>,
    reader: &mut Reader,
) -> Option<String> {
    fields
        .required("host", reader)
        .and_then(|node| reader.scalar::<crate::units::Name>(node, "host name"))
        .map(|name| name.to_string())
}
