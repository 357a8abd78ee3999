//! What twin says when it is done: documents for programs, text for people.

mod baselines;
mod documents;
mod html;
mod html_chart;
mod junit;
mod outcomes;
mod plain;
mod progress;
mod scenario_text;

pub use baselines::*;
pub use documents::*;
pub use html::scenario_html;
pub use junit::scenario_junit;
pub use progress::progress;
pub use scenario_text::scenario_text;
