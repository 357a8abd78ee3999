//! twin builds the testcloud of a Charmed `OpenStack` operator as a lab of real virtual machines, and replays the
//! incidents that the operator's decision record describes.
//!
//! Data flows one way:
//!
//! ```text
//!  topology file ──> topology ──> model ──> plan ──> lab ──> hypervisor ──> snapshot ──> scenario ──> report
//!                    (parse,      (Lab)    (steps)  (apply)  guest          (create,    (steps,     (text,
//!                     validate)               ^        │     hostnet         restore)    probes,     JSON)
//!                                             │        v        │                        undo)
//!                                             └── observed <────┘
//!                                                      │
//!                                                   journal (intents before acts)
//! ```
//!
//! The three seams to the world outside are the traits of [`hypervisor`], [`guest`] and [`hostnet`], with a clock
//! beside them. Each has a real driver and one in [`sim`]; `cli::wiring` is the only place that chooses.

#![warn(clippy::disallowed_methods)]

pub mod units;
pub mod wire;

#[cfg(feature = "host")]
pub mod cli;
#[cfg(feature = "host")]
#[expect(clippy::disallowed_methods, reason = "it is the clock")]
pub mod clock;
#[cfg(feature = "host")]
pub mod diagnostics;
#[cfg(feature = "host")]
#[expect(clippy::disallowed_methods, reason = "it times programs")]
pub mod doctor;
#[cfg(feature = "host")]
#[expect(clippy::disallowed_methods, reason = "a driver: it waits for sockets")]
pub mod guest;
#[cfg(feature = "host")]
#[expect(
    clippy::disallowed_methods,
    reason = "a driver: it waits for sockets and programs"
)]
pub mod hostnet;
#[cfg(feature = "host")]
#[expect(clippy::disallowed_methods, reason = "a driver: it waits for sockets")]
pub mod http;
#[cfg(feature = "host")]
pub mod hypervisor;
#[cfg(feature = "host")]
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for the programs that build images"
)]
pub mod image;
#[cfg(feature = "host")]
pub mod journal;
#[cfg(feature = "host")]
pub mod lab;
#[cfg(feature = "host")]
pub mod model;
#[cfg(feature = "host")]
pub mod plan;
#[cfg(feature = "host")]
pub mod report;
#[cfg(feature = "host")]
pub mod scenario;
#[cfg(feature = "host")]
pub mod service;
#[cfg(feature = "host")]
#[expect(clippy::disallowed_methods, reason = "it simulates time")]
pub mod sim;
#[cfg(feature = "host")]
pub mod snapshot;
#[cfg(feature = "host")]
pub mod storage;
#[cfg(feature = "host")]
pub mod tools;
#[cfg(feature = "host")]
pub mod topology;
