//! What twin says when it is done: documents for programs, text for people.

mod baselines;
mod documents;
mod scenario_text;

pub use baselines::*;
pub use documents::*;
pub use scenario_text::scenario_text;
