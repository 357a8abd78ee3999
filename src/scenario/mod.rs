//! Scenarios: breaking a lab on purpose, proving that it broke, and putting it back.
//!
//! ```text
//!  file ──parse──> Scenario ──variant──> Resolved (actions, probes, expectations)
//!                                            │
//!   steady, baseline ──> [capture ─> intent ─> act ─> verify]* ──> observe ──> undo LIFO ──> recovered, as the baseline?
//!                            └──────────── any failure ──────────────────────────^
//! ```
//!
//! An action that did not take effect makes the outcome inconclusive, whatever the probes say. A new fault is one file in
//! `fault/` and a line in its list; a new probe the same in `probe/`.

mod arguments;
mod at_boot;
mod baseline;
mod continuous;
mod engine;
mod error;
mod events;
mod expect;
pub mod fault;
mod file;
mod footprint;
mod inject;
mod injection;
mod judge;
mod looking;
pub mod probe;
mod probe_entry;
mod probe_state;
mod put_back;
mod record;
mod recovery;
mod result;
mod run;
mod safety;
mod sampling;
mod schema;
mod step;
mod undo;
mod variables;
mod variant;
mod watching;
mod world;
mod written;

pub use at_boot::{before_libvirt, put_off};
pub use baseline::{Cleared, clear};
pub use engine::Choice;
pub use error::{FaultError, ScenarioError, ScenarioProblem};
pub use events::{Begun, EVENTS, Ended, RunEvent, RunPhase, RunWatch};
pub use expect::Expect;
pub use file::{Resolved, Scenario, parse};
pub use probe_entry::{Phase, ResolvedProbe};
pub use result::{
    Evidence, LookChange, LookState, MemorySample, Outcome, ProbeOutcome, ProbeResult, RunResult,
    StepOutcome, StepResult, TargetHost, VariantResult, Verdict, WorldResult,
};
pub use run::{chosen, may_begin, run};
pub use safety::{Policy, Stop};
pub use schema::{reference, schema};
pub use step::{ResolvedStep, Work};
pub use undo::{Recovered, lift_overdue, recover, recover_outside};
pub use variables::Variables;
pub use world::World;
