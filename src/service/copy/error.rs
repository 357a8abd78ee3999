//! Why a file is not copied.

use std::path::PathBuf;

/// Standard input, or standard output.
pub(super) const STREAM: &str = "-";

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// What is to be copied cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file here.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is a directory.
    #[error("{} is a directory", path.display())]
    Directory {
        /// The directory here.
        path: PathBuf,
        /// Where it would be in the host.
        to: String,
    },
    /// It is a device.
    #[error("{} is a device, and has no length", path.display())]
    Device {
        /// The device here.
        path: PathBuf,
        /// Where it would be in the host.
        to: String,
    },
    /// Its place cannot be written to.
    #[error("{}: {source}", path.display())]
    Write {
        /// The place here.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The host's program failed.
    #[error("{host} says (exit {code}): {said}")]
    Host {
        /// The host.
        host: String,
        /// The program's exit code.
        code: i32,
        /// What it wrote to its standard error.
        said: String,
    },
    /// What came could not be written.
    #[error("writing here: {source}")]
    Sink {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
