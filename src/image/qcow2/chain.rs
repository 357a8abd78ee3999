//! The backing chain.

use std::path::{Path, PathBuf};

use super::{MAX_DEPTH, Qcow2, Qcow2Error};

/// A file of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// The file.
    pub path: PathBuf,
    /// `qcow2` or `raw`.
    pub format: String,
}

/// Follows the chain from `top`, which is qcow2, down to the last file. Relative names are relative to the file that has
/// them. A file below without a written format is refused: guessing it is how a guest gets to name files of this machine.
pub fn chain(top: &Path) -> Result<Vec<ChainLink>, Qcow2Error> {
    let mut links = vec![ChainLink {
        path: top.to_owned(),
        format: "qcow2".into(),
    }];
    let mut seen = vec![canonical(top)?];
    loop {
        let Some(last) = links.last().filter(|link| link.format == "qcow2") else {
            return Ok(links);
        };
        let image = Qcow2::open(&last.path)?;
        let Some(backing) = &image.header().backing else {
            return Ok(links);
        };
        if links.len() >= MAX_DEPTH {
            return Err(Qcow2Error::TooDeep);
        }
        let text = backing.to_string_lossy();
        if text.starts_with("json:") || text.contains("://") {
            return Err(Qcow2Error::Unsupported {
                what: format!("a backing file that is no path, {text}"),
            });
        }
        let path = last
            .path
            .parent()
            .map_or_else(|| backing.clone(), |directory| directory.join(backing));
        let format = match image.header().backing_format.as_deref() {
            Some(format @ ("qcow2" | "raw")) => format.to_owned(),
            other => {
                return Err(Qcow2Error::Unsupported {
                    what: format!("a backing file of {} format", other.unwrap_or("no written")),
                });
            }
        };
        let own = canonical(&path)?;
        if seen.contains(&own) {
            return Err(Qcow2Error::Loop { path });
        }
        seen.push(own);
        links.push(ChainLink { path, format });
    }
}

/// The files below `top`, as far down as headers can be read, whatever formats they say: a user of `top` uses each.
pub fn files_below(top: &Path) -> Vec<PathBuf> {
    let mut below: Vec<PathBuf> = Vec::new();
    let mut last = top.to_owned();
    while below.len() < MAX_DEPTH && last.is_file() {
        let Ok(image) = Qcow2::open(&last) else {
            break;
        };
        let Some(backing) = &image.header().backing else {
            break;
        };
        let next = match last.parent() {
            Some(directory) => directory.join(backing),
            None => backing.clone(),
        };
        if below.contains(&next) {
            break;
        }
        below.push(next.clone());
        last = next;
    }
    below
}

fn canonical(path: &Path) -> Result<PathBuf, Qcow2Error> {
    path.canonicalize().map_err(|source| Qcow2Error::Io {
        what: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_files_below_are_found_past_what_a_chain_refuses() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let make = |arguments: &[&str]| {
            let made = std::process::Command::new("qemu-img")
                .current_dir(directory.path())
                .args(["create", "-q", "-f", "qcow2"])
                .args(arguments)
                .status();
            assert!(made.expect("qemu-img runs").success());
        };
        make(&["base.qcow2", "1M"]);
        make(&["-b", "base.qcow2", "-F", "qcow2", "middle.qcow2"]);
        make(&["-b", "middle.qcow2", "-F", "qcow2", "top.qcow2"]);
        std::fs::remove_file(at("base.qcow2")).expect("removed");
        assert!(chain(&at("top.qcow2")).is_err(), "the last file is gone");
        assert_eq!(
            files_below(&at("top.qcow2")),
            [at("middle.qcow2"), at("base.qcow2")]
        );
        assert_eq!(files_below(&at("none")), Vec::<PathBuf>::new());
    }
}
