//! What can be wrong with a file whatever it describes.

use super::{Problem, Span, codes, nearest};

/// What can be wrong with a file whatever it describes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It is no YAML.
    #[error("this is not YAML: {why}")]
    Syntax {
        /// What the parser said.
        why: String,
    },
    /// A key that means nothing here.
    #[error("{key} means nothing in {place}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The mapping it stands in.
        place: String,
        /// What is allowed.
        allowed: Vec<&'static str>,
    },
    /// A key that stands twice.
    #[error("{key} stands twice in {place}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// The mapping it stands in.
        place: String,
    },
    /// A key that is needed and is not there.
    #[error("{place} has no {key}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The mapping that lacks it.
        place: String,
    },
    /// Text where a mapping belongs, and the like.
    #[error("{wanted} belongs here, and this is {found}")]
    WrongType {
        /// What belongs here.
        wanted: &'static str,
        /// What is here.
        found: &'static str,
    },
    /// A value that cannot be read as what it should be.
    #[error("{text} is no {wanted}: {why}")]
    BadValue {
        /// The text.
        text: String,
        /// What it should be.
        wanted: String,
        /// Why it is not.
        why: String,
    },
}

codes! {
    FormatError:
    Syntax => "syntax",
    UnknownKey => "unknown-key",
    DuplicateKey => "duplicate-key",
    MissingKey => "missing-key",
    WrongType => "wrong-type",
    BadValue => "bad-value",
}

/// What a key is that means nothing where it stands.
pub(super) const KEY_HERE: &str = "key here";

/// How such a value is written, where an example says more than why this one is none.
fn example(wanted: &str) -> Option<&'static str> {
    Some(match wanted {
        "size" | "memory" | "swap" => "512MiB or 8GiB",
        "duration" => "90s, 5m or 1h30m",
        "address" => "10.12.8.20",
        "address or subnet" => "10.12.8.20 or 10.12.8.0/22",
        "subnet" => "10.12.8.0/22",
        "range" => "10.12.4.200-10.12.4.250",
        _ => return None,
    })
}

impl FormatError {
    fn cure(&self) -> String {
        match self {
            Self::Syntax { .. } => "mend the YAML here or just before".into(),
            Self::UnknownKey { key, allowed, .. } => match nearest(key, allowed.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("one of: {}", allowed.join(", ")),
            },
            Self::DuplicateKey { .. } => "remove one of the two".into(),
            Self::MissingKey { key, .. } => format!("add {key}: .."),
            Self::WrongType { wanted, .. } => format!("write {wanted}"),
            Self::BadValue { text, wanted, .. } => match example(wanted) {
                Some(example) => format!("write it like {example}"),
                None if wanted == KEY_HERE => format!("remove {text}, or what it does not go with"),
                None => "give another value".into(),
            },
        }
    }

    /// Makes a problem of it.
    pub fn at(self, span: Span) -> Problem {
        Problem {
            code: self.code(),
            message: self.to_string(),
            span,
            cure: self.cure(),
        }
    }
}
