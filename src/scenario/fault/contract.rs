//! What a fault is: a value with the arguments of the scenario file, and a snapshot of what was before it, which reverts it.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diagnostics::{Keys, Node, Reader};
use crate::scenario::arguments::{self, Mistake};
use crate::scenario::footprint::Footprint;
use crate::scenario::{FaultError, World};

/// How a fault went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effectiveness {
    /// Whether it took effect.
    pub effective: bool,
    /// What was seen.
    pub seen: String,
    /// What a fault that asked the scheduler was refused with.
    pub refused: Option<String>,
}

impl Effectiveness {
    pub(super) fn new(effective: bool, seen: impl Into<String>) -> Self {
        Self {
            effective,
            seen: seen.into(),
            refused: None,
        }
    }
}

/// A fault with its arguments, which are the keys of its mapping in a scenario file.
pub(super) trait Fault:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Its name in files and in the journal.
    const NAME: &'static str;

    /// What its revert needs.
    type Prior: Prior;

    /// What its arguments' types do not say of them.
    fn check(&self) -> Result<(), Mistake> {
        Ok(())
    }

    /// What it is about to do, for people.
    fn describe(&self) -> String;

    /// What it sets, on which hosts.
    fn footprint(&self) -> Footprint;

    /// Reads what its revert needs, changing nothing.
    fn capture(
        &self,
        world: &World,
    ) -> impl Future<Output = Result<Self::Prior, FaultError>> + Send;

    /// Does it, with what was captured; ends within `within`.
    fn inject(
        &self,
        world: &World,
        prior: &Self::Prior,
        within: Duration,
    ) -> impl Future<Output = Result<(), FaultError>> + Send;

    /// Looks whether it took effect.
    fn verify(
        &self,
        world: &World,
        prior: &Self::Prior,
    ) -> impl Future<Output = Result<Effectiveness, FaultError>> + Send;
}

/// What was before a fault. The journal keeps it, and any later twin reverts by it alone: keys may be added, with a default, and
/// keep their names.
pub(super) trait Prior: Serialize + DeserializeOwned + Send + Sync {
    /// What the fault has set, and what the revert relies on.
    fn footprint(&self) -> Footprint;

    /// What the revert does, as a sentence without a full stop.
    fn describe(&self) -> String;

    /// Sets the state that was before; it never toggles. Returns what was done.
    fn revert(&self, world: &World) -> impl Future<Output = Result<String, FaultError>> + Send;

    /// Reverts what was done to this machine, and leaves what is inside the host to a baseline.
    fn revert_outside(
        &self,
        world: &World,
    ) -> impl Future<Output = Result<String, FaultError>> + Send {
        self.revert(world)
    }

    /// Reverts what was done to files of this machine, where nothing that libvirt knows runs; returns what was done. The rest
    /// is still open.
    fn revert_files(&self) -> Result<Option<String>, FaultError> {
        Ok(None)
    }
}

/// A fault of any kind.
#[derive(Clone)]
pub struct AnyFault(Arc<dyn Erased>);

/// A prior state as the journal keeps it.
pub type Captured = Value;

/// [`Fault`] without its types.
trait Erased: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn describe(&self) -> String;
    fn footprint(&self) -> Footprint;
    fn value(&self) -> Value;
    fn capture<'f>(&'f self, world: &'f World) -> BoxFuture<'f, Result<Captured, FaultError>>;
    fn inject<'f>(
        &'f self,
        world: &'f World,
        prior: &'f Captured,
        within: Duration,
    ) -> BoxFuture<'f, Result<(), FaultError>>;
    fn verify<'f>(
        &'f self,
        world: &'f World,
        prior: &'f Captured,
    ) -> BoxFuture<'f, Result<Effectiveness, FaultError>>;
}

fn prior<P: Prior>(captured: &Captured) -> Result<P, FaultError> {
    Ok(P::deserialize(captured)?)
}

impl<F: Fault> Erased for F {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn describe(&self) -> String {
        Fault::describe(self)
    }

    fn footprint(&self) -> Footprint {
        Fault::footprint(self)
    }

    fn value(&self) -> Value {
        arguments::value(self)
    }

    fn capture<'f>(&'f self, world: &'f World) -> BoxFuture<'f, Result<Captured, FaultError>> {
        Box::pin(async move {
            let prior = Fault::capture(self, world).await?;
            Ok(serde_json::to_value(prior)?)
        })
    }

    fn inject<'f>(
        &'f self,
        world: &'f World,
        captured: &'f Captured,
        within: Duration,
    ) -> BoxFuture<'f, Result<(), FaultError>> {
        Box::pin(async move { Fault::inject(self, world, &prior(captured)?, within).await })
    }

    fn verify<'f>(
        &'f self,
        world: &'f World,
        captured: &'f Captured,
    ) -> BoxFuture<'f, Result<Effectiveness, FaultError>> {
        Box::pin(async move { Fault::verify(self, world, &prior(captured)?).await })
    }
}

impl AnyFault {
    /// Its name in files and in the journal.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// What it is about to do, for people.
    pub fn describe(&self) -> String {
        self.0.describe()
    }

    /// What it sets.
    pub(in crate::scenario) fn footprint(&self) -> Footprint {
        self.0.footprint()
    }

    /// The hosts that it acts on.
    pub fn hosts(&self) -> Vec<String> {
        self.0.footprint().hosts()
    }

    /// Its arguments, as a scenario file has them.
    pub fn arguments(&self) -> Value {
        self.0.value()
    }

    /// Reads what its revert needs, changing nothing.
    pub async fn capture(&self, world: &World) -> Result<Captured, FaultError> {
        self.0.capture(world).await
    }

    /// Does it, with what was captured; ends within `within`.
    pub async fn inject(
        &self,
        world: &World,
        captured: &Captured,
        within: Duration,
    ) -> Result<(), FaultError> {
        self.0.inject(world, captured, within).await
    }

    /// Looks whether it took effect.
    pub async fn verify(
        &self,
        world: &World,
        captured: &Captured,
    ) -> Result<Effectiveness, FaultError> {
        self.0.verify(world, captured).await
    }
}

impl Debug for AnyFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl PartialEq for AnyFault {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.arguments()) == (other.name(), other.arguments())
    }
}

/// A kind of fault, as the list of all has it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) read: fn(&Node, &mut Reader) -> Option<AnyFault>,
    pub(super) from_value: fn(Value) -> Result<AnyFault, FaultError>,
    pub(super) keys: fn() -> Keys,
    pub(super) schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    pub(super) footprint: fn(&Captured) -> Result<Footprint, FaultError>,
    pub(super) describe: fn(&Captured) -> Result<String, FaultError>,
    pub(super) revert:
        for<'f> fn(&'f World, &'f Captured) -> BoxFuture<'f, Result<String, FaultError>>,
    pub(super) revert_outside:
        for<'f> fn(&'f World, &'f Captured) -> BoxFuture<'f, Result<String, FaultError>>,
    pub(super) revert_files: fn(&Captured) -> Result<Option<String>, FaultError>,
}

impl Kind {
    pub(super) const fn of<F: Fault>() -> Self {
        Self {
            name: F::NAME,
            read: |node, reader| {
                let fault = arguments::read::<F>(F::NAME, node, F::check, reader)?;
                Some(AnyFault(Arc::new(fault)))
            },
            from_value: |value| {
                let read = arguments::from_value::<F>(F::NAME, value, F::check)?;
                Ok(AnyFault(Arc::new(read)))
            },
            keys: Keys::of::<F>,
            schema: schemars::SchemaGenerator::subschema_for::<F>,
            footprint: |captured| Ok(prior::<F::Prior>(captured)?.footprint()),
            describe: |captured| Ok(prior::<F::Prior>(captured)?.describe()),
            revert: |world, captured| {
                Box::pin(async move { prior::<F::Prior>(captured)?.revert(world).await })
            },
            revert_outside: |world, captured| {
                Box::pin(async move { prior::<F::Prior>(captured)?.revert_outside(world).await })
            },
            revert_files: |captured| prior::<F::Prior>(captured)?.revert_files(),
        }
    }
}

/// Declares the modules of a folder's faults, and lists them. `cargo fmt` does not see modules behind a macro: `make lint` formats
/// them by name.
macro_rules! faults {
    ($($module:ident::$fault:ident,)*) => {
        $(mod $module;)*

        /// The faults of this folder.
        pub(super) const FAULTS: &[super::contract::Kind] =
            &[$(super::contract::Kind::of::<$module::$fault>()),*];
    };
}
pub(super) use faults;
