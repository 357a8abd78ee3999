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
