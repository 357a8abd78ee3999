//! Why a file cannot be read as qcow2.

use std::path::PathBuf;

/// The most files in a chain: beyond this QEMU itself gets slow (shared/facts.md 10).
pub const MAX_DEPTH: usize = 128;

/// Why a file cannot be read as qcow2.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// The file system said so.
    #[error("cannot read {what}: {source}")]
    Io {
        /// What was read.
        what: String,
        /// What was said.
        #[source]
        source: std::io::Error,
    },
    /// It is no qcow2 file.
    #[error("it is no qcow2 file")]
    NotQcow2,
    /// It uses something that this reader does not know.
    #[error("it uses {what}, which twin does not read")]
    Unsupported {
        /// The feature.
        what: String,
    },
    /// A number in it cannot be.
    #[error("it is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// The chain leads back to a file that is in it.
    #[error("its backing chain leads back to {path}")]
    Loop {
        /// The file.
        path: PathBuf,
    },
    /// The chain has too many files.
    #[error("its backing chain has more than {MAX_DEPTH} files")]
    TooDeep,
}

pub(super) fn damaged(what: impl Into<String>) -> Qcow2Error {
    Qcow2Error::Damaged { what: what.into() }
}
