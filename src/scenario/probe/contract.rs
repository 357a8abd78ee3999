//! What a probe is: a value with the arguments of the scenario file, which is asked again and again.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diagnostics::{Keys, Node, Reader};
use crate::scenario::arguments::{self, Mistake};
use crate::scenario::{Evidence, FaultError, World};

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

/// Something that can be looked at, with its arguments, which are the keys of its mapping in a scenario file.
pub(super) trait Probe:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Its name in files.
    const NAME: &'static str;

    /// Where things stand before the first step, as far as its looks need it.
    type Reference: Send + Sync + 'static;

    /// What its arguments' types do not say of them.
    fn check(&self) -> Result<(), Mistake> {
        Ok(())
    }

    /// Remembers where things stand before the first step.
    fn begin(
        &self,
        world: &World,
    ) -> impl Future<Output = Result<Self::Reference, FaultError>> + Send;

    /// Finds out whether it could begin; changes nothing.
    fn preview(&self, world: &World) -> impl Future<Output = Result<(), FaultError>> + Send {
        async { self.begin(world).await.map(drop) }
    }

    /// Looks.
    fn look(
        &self,
        world: &World,
        reference: &Self::Reference,
        seen: &Seen,
    ) -> impl Future<Output = Result<Finding, FaultError>> + Send;
}

/// A probe of any kind.
#[derive(Clone)]
pub struct AnyProbe(Arc<dyn Erased>);

/// What a probe remembers of the time before the first step.
#[derive(Clone)]
pub struct Reference(Arc<dyn Any + Send + Sync>);

/// [`Probe`] without its types.
trait Erased: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn value(&self) -> Value;
    fn begin<'p>(&'p self, world: &'p World) -> BoxFuture<'p, Result<Reference, FaultError>>;
    fn preview<'p>(&'p self, world: &'p World) -> BoxFuture<'p, Result<(), FaultError>>;
    fn look<'p>(
        &'p self,
        world: &'p World,
        reference: &'p Reference,
        seen: &'p Seen,
    ) -> BoxFuture<'p, Result<Finding, FaultError>>;
}

impl<P: Probe> Erased for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn value(&self) -> Value {
        arguments::value(self)
    }

    fn begin<'p>(&'p self, world: &'p World) -> BoxFuture<'p, Result<Reference, FaultError>> {
        Box::pin(async move { Ok(Reference(Arc::new(Probe::begin(self, world).await?))) })
    }

    fn preview<'p>(&'p self, world: &'p World) -> BoxFuture<'p, Result<(), FaultError>> {
        Box::pin(Probe::preview(self, world))
    }

    fn look<'p>(
        &'p self,
        world: &'p World,
        reference: &'p Reference,
        seen: &'p Seen,
    ) -> BoxFuture<'p, Result<Finding, FaultError>> {
        let other = || FaultError::Target(format!("{} has another probe's reference", P::NAME));
        Box::pin(async move {
            let reference = reference.0.downcast_ref::<P::Reference>();
            Probe::look(self, world, reference.ok_or_else(other)?, seen).await
        })
    }
}

impl AnyProbe {
    /// Its name in files.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its arguments, as a scenario file has them.
    pub fn arguments(&self) -> Value {
        self.0.value()
    }

    /// Remembers where things stand before the first step.
    pub async fn begin(&self, world: &World) -> Result<Reference, FaultError> {
        self.0.begin(world).await
    }

    /// Finds out whether it could begin; changes nothing.
    pub async fn preview(&self, world: &World) -> Result<(), FaultError> {
        self.0.preview(world).await
    }

    /// Looks.
    pub async fn look(
        &self,
        world: &World,
        reference: &Reference,
        seen: &Seen,
    ) -> Result<Finding, FaultError> {
        self.0.look(world, reference, seen).await
    }
}

impl Debug for AnyProbe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reference")
    }
}

impl PartialEq for AnyProbe {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.arguments()) == (other.name(), other.arguments())
    }
}

/// A kind of probe, as the list of all has it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) read: fn(&Node, &mut Reader) -> Option<AnyProbe>,
    pub(super) from_value: fn(Value) -> Result<AnyProbe, FaultError>,
    pub(super) keys: fn() -> Keys,
    pub(super) schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

impl Kind {
    pub(super) const fn of<P: Probe>() -> Self {
        Self {
            name: P::NAME,
            read: |node, reader| {
                let probe = arguments::read::<P>(P::NAME, node, P::check, reader)?;
                Some(AnyProbe(Arc::new(probe)))
            },
            from_value: |value| {
                let read = arguments::from_value::<P>(P::NAME, value, P::check)?;
                Ok(AnyProbe(Arc::new(read)))
            },
            keys: Keys::of::<P>,
            schema: schemars::SchemaGenerator::subschema_for::<P>,
        }
    }
}

/// Declares the modules of the probes, and lists them. `cargo fmt` does not see modules behind a macro: `make lint` formats them by
/// name.
macro_rules! probes {
    ($($module:ident::$probe:ident,)*) => {
        $(mod $module;)*

        /// All probes.
        const ALL: &[contract::Kind] = &[$(contract::Kind::of::<$module::$probe>()),*];
    };
}
pub(super) use probes;

pub(super) fn evidence(source: impl Into<String>, text: impl Into<String>) -> Evidence {
    Evidence {
        source: source.into(),
        text: text.into(),
    }
}
