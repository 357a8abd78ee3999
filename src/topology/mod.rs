//! Topology files: `twin/topology/v1`.
//!
//! [`load`] reads a file with what it extends, and returns a validated [`crate::model::Topology`] or every problem at once.

mod error;
mod load;
mod merge;
mod parse;
mod validate;

pub use error::TopologyError;
pub use load::{LoadError, Loaded, Lookup, load};

/// The JSON Schema of a topology file, for editors. What it cannot say, such as that addresses lie in their networks, [`load`]
/// checks.
pub const SCHEMA: &str = include_str!("schema.json");
