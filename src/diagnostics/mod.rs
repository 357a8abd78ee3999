//! Problems in files that people write: where, what, and what to do; all of them at once.
//!
//! A file becomes a tree of [`Node`]s that know their place. A [`Reader`] takes it apart and collects a [`Problem`]
//! for each thing that is wrong, instead of stopping at the first. [`render`] shows them with their lines.

mod error;
mod reader;
mod render;
mod tree;
mod typed;

pub use error::FormatError;
pub use reader::{Fields, Keys, Reader};
pub use render::{Place, place, render};
pub use tree::{Key, Node, Value, parse};

/// Gives each kind of mistake its code and lists the codes; a kind left out does not compile.
macro_rules! codes {
    ($kinds:ident: $($variant:ident => $code:literal,)*) => {
        impl $kinds {
            /// All codes.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// The kind, stable.
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)*
                }
            }
        }
    };
}
pub(crate) use codes;

/// A file's name as shown, and its text.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A piece of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Which file, by its place in the list of sources.
    pub file: usize,
    /// Where it starts.
    pub offset: usize,
    /// How long it is.
    pub length: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The kind, stable, for tests and editors.
    pub code: &'static str,
    /// What is wrong, as a fragment.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it.
    pub cure: String,
}

/// Returns the candidate nearest to `word`, where one is near enough to be what was meant.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    const NEAR_ENOUGH: f64 = 0.75;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(nearness, _)| *nearness >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
