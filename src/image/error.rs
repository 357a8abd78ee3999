//! What building an image can fail with.

use std::path::PathBuf;

use crate::storage;

/// A failure. `Display` says what failed; [`ImageError::cure`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No such recipe.
    #[error("there is no image {name}")]
    Unknown {
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A recipe has a mistake.
    #[error("the recipe {path} is wrong: {why}")]
    Recipe {
        /// Its file.
        path: String,
        /// What the parser said.
        why: String,
    },
    /// A tool failed.
    #[error("{tool} failed: {why}")]
    Tool {
        /// The program.
        tool: String,
        /// Its last words.
        why: String,
    },
    /// The user who builds images does not reach their place.
    #[error("images are built by a user without rights, who does not reach {place}")]
    Closed {
        /// Where they are built.
        place: PathBuf,
    },
    /// A tool is not installed.
    #[error("{tool} is not installed")]
    ToolMissing {
        /// The program.
        tool: String,
    },
    /// A file that a recipe names is in none of its packages.
    #[error("{file} is in none of the recipe's packages")]
    FileMissing {
        /// The file.
        file: String,
    },
    /// The hash is another.
    #[error("{path} has SHA-256 {found}, and {wanted} was asked for")]
    Hash {
        /// The file.
        path: PathBuf,
        /// As computed.
        found: String,
        /// As in the topology.
        wanted: String,
    },
    /// A cloud image is not there.
    #[error("there is no image file {path}")]
    SourceMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// An image lost its manifest, and hosts' disks may lie on its base disk.
    #[error("image {} is not complete: it has a base disk and no manifest", directory.display())]
    Half {
        /// Its directory.
        directory: PathBuf,
    },
    /// A cloud image names another file, which QEMU would open.
    #[error("{path} is no image to start from: {why}")]
    Source {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file below hosts' disks is not what it was when they were made.
    #[error(
        "{path} has been replaced since disks were made on it: its SHA-256 was {was}, and is {is}"
    )]
    Replaced {
        /// The file.
        path: PathBuf,
        /// Its hash when it was first used.
        was: String,
        /// Its hash now.
        is: String,
    },
    /// The guest's own memory could not be measured.
    #[error("the image did not come up when it was measured: {why}")]
    Measure {
        /// What was seen.
        why: String,
    },
    /// twin-guest is not beside twin.
    #[error("twin-guest is not there: looked for {}", looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    GuestMissing {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done to which file.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl ImageError {
    /// Names a file operation.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Unknown { known, .. } => {
                format!("one of: {}; or add images/NAME.yaml", known.join(", "))
            }
            Self::Recipe { .. } => "mend the recipe; images/README.md shows the format".into(),
            Self::Tool { tool, .. } if tool.starts_with("apt") => {
                "see that `apt-get update` works, then run the same command again".into()
            }
            Self::Tool { why, .. } if why.contains("Permission denied") => {
                storage::LET_PASS.into()
            }
            Self::Tool { .. } => "see its last words above; then run the same command again".into(),
            Self::Closed { .. } => {
                "let others pass through the directories above it (`chmod o+x`), then run the same command again".into()
            }
            Self::ToolMissing { .. } => "run scripts/host-setup.sh".into(),
            Self::FileMissing { .. } => {
                "add the package that has it to the recipe's packages".into()
            }
            Self::Hash { .. } => "fetch the image again, or correct sha256 in the topology".into(),
            Self::SourceMissing { .. } => "correct source in the topology".into(),
            Self::Half { directory } => format!(
                "where no host has a disk on it, move {} away: it is built again",
                directory.display()
            ),
            Self::Source { .. } => {
                "give a qcow2 that stands alone (`qemu-img convert -O qcow2 OLD NEW` makes one), by a path or an http or https URL".into()
            }
            Self::Replaced { .. } => {
                "put the file back as it was, or discard the disks on it with `twin up TOPOLOGY --replace HOST --blank`".into()
            }
            Self::Measure { .. } => {
                "`twin doctor` shows which accelerator works; --accel chooses one".into()
            }
            Self::GuestMissing { .. } => {
                "build it with `make build`, or name it in TWIN_GUEST".into()
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free space on the state disk, then run the same command again".into()
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "run as root, or as the owner of the state directory".into()
            }
            Self::Io { .. } => "see that the state directory is there and can be written to".into(),
        }
    }
}
