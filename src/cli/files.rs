//! Where topologies, scenarios and image recipes are looked up: as a path, below the working directory, below the XDG
//! configuration directories, and in twin itself.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::diagnostics::Source;
use crate::image::{Recipe, RecipeLookup};
use crate::storage;
use crate::topology::Lookup;

/// Topologies that come with twin.
const TOPOLOGIES: &[(&str, &str)] = &[
    ("testcloud", include_str!("../../topologies/testcloud.yaml")),
    (
        "testcloud-as-built",
        include_str!("../../topologies/testcloud-as-built.yaml"),
    ),
    ("tiny", include_str!("../../topologies/tiny.yaml")),
];

/// Scenarios that come with twin.
const SCENARIOS: &[(&str, &str)] = &[
    (
        "cross-bridge-reject",
        include_str!("../../scenarios/cross-bridge-reject.yaml"),
    ),
    (
        "dual-homed-cilium",
        include_str!("../../scenarios/dual-homed-cilium.yaml"),
    ),
    (
        "host-power-loss",
        include_str!("../../scenarios/host-power-loss.yaml"),
    ),
    (
        "oom-openstack1",
        include_str!("../../scenarios/oom-openstack1.yaml"),
    ),
    ("rebuild", include_str!("../../scenarios/rebuild.yaml")),
    (
        "shutoff-capi-mgmt",
        include_str!("../../scenarios/shutoff-capi-mgmt.yaml"),
    ),
];

/// How the name of a file ends that comes with twin: it is in no directory.
const BUILT_IN: &str = " (built in)";

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    folder: &'static str,
    built_in: &'static [(&'static str, &'static str)],
}

/// Topologies.
pub(crate) const fn topologies() -> Files {
    Files {
        folder: "topologies",
        built_in: TOPOLOGIES,
    }
}

/// Scenarios.
pub(crate) const fn scenarios() -> Files {
    Files {
        folder: "scenarios",
        built_in: SCENARIOS,
    }
}

/// Image recipes; the image store has its own built in.
pub(crate) const fn images() -> Files {
    Files {
        folder: "images",
        built_in: &[],
    }
}

fn configuration() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    Some(base?.join("twin"))
}

/// The recipe of that name that comes with twin.
fn own_recipe(files: Files, name: &str) -> Option<Source> {
    let text = (files.folder == images().folder).then(|| Recipe::built_in(name))??;
    let (name, text) = (name.to_owned(), text.to_owned());
    Some(Source { name, text })
}

/// What is worth knowing of how files were found; told once the verb has a printer.
static REMARKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes what is worth knowing of how files were found so far.
pub(crate) fn remarks() -> Vec<String> {
    std::mem::take(&mut *REMARKS.lock().unwrap_or_else(PoisonError::into_inner))
}

fn remark(text: String) {
    let mut remarks = REMARKS.lock().unwrap_or_else(PoisonError::into_inner);
    if !remarks.contains(&text) {
        remarks.push(text);
    }
}

/// Why a file that was not named by its path is not taken: another user could have put it there. Nothing where only root
/// or the caller can.
fn untrusted(path: &Path) -> Option<String> {
    let own = nix::unistd::geteuid().as_raw();
    let caller = std::env::var("SUDO_UID")
        .ok()
        .and_then(|id| id.parse().ok());
    let trusted = |user: u32| user == 0 || user == own || Some(user) == caller;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    for place in [Some(path), parent].into_iter().flatten() {
        // A link's own owner counts, and what it leads to.
        for found in [place.symlink_metadata(), place.metadata()]
            .into_iter()
            .flatten()
        {
            let shown = place.display();
            if !trusted(found.uid()) {
                return Some(format!("{shown} belongs to user {}", found.uid()));
            }
            let link = found.file_type().is_symlink();
            let group = found.mode() & 0o020 != 0 && !private_group(found.uid(), found.gid());
            if !link && (found.mode() & 0o002 != 0 || group) {
                return Some(format!("others than its owner can write to {shown}"));
            }
        }
    }
    None
}

/// Whether a group is a user's own, with no other member, as distributions make them.
fn private_group(user: u32, group: u32) -> bool {
    let found = nix::unistd::Group::from_gid(group.into()).ok().flatten();
    let owner = nix::unistd::User::from_uid(user.into()).ok().flatten();
    match (found, owner) {
        (Some(found), Some(owner)) => {
            owner.gid == found.gid && found.mem.iter().all(|member| *member == owner.name)
        }
        _ => false,
    }
}

fn read(path: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(Source {
        name: path.display().to_string(),
        text,
    })
}

/// Reads a file below the directory of the one that names it; no link leads out of that.
fn read_beneath(from: &str, name: &str) -> Option<Source> {
    if from.ends_with(BUILT_IN) {
        return None;
    }
    let directory = Path::new(from).parent()?;
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let text = storage::text_beneath(directory, Path::new(name)).ok()?;
    Some(Source {
        name: directory.join(name).display().to_string(),
        text,
    })
}

impl Files {
    fn folders(self) -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::from(self.folder)];
        folders.extend(configuration().map(|base| base.join(self.folder)));
        folders
    }

    fn built_in(self, name: &str) -> Option<Source> {
        let mut all = self.built_in.iter();
        let (known, text) = all.find(|(known, _)| *known == name)?;
        Some(Source {
            name: format!("{known}.yaml{BUILT_IN}"),
            text: (*text).to_owned(),
        })
    }

    /// Finds a bare name below the working directory and the configuration directories. A user who runs twin in a directory of
    /// another user's has not asked for that user's files.
    fn found_by_name(self, name: &str) -> Option<Source> {
        let file = format!("{name}.yaml");
        for folder in self.folders() {
            let path = folder.join(&file);
            if path.symlink_metadata().is_err() {
                continue;
            }
            if let Some(why) = untrusted(&path) {
                remark(format!("{} is not taken: {why}", path.display()));
                continue;
            }
            let Some(source) = read(&path) else { continue };
            let hidden = self.built_in(name).or_else(|| own_recipe(self, name));
            if hidden.is_some_and(|hidden| hidden.text != source.text) {
                let shown = path.display();
                remark(format!(
                    "{name} is {shown}, not the one that comes with twin"
                ));
            }
            return Some(source);
        }
        None
    }

    /// Finds a file by path or bare name; where a file names it, below that one's directory.
    pub(crate) fn find(self, name: &str, from: Option<&str>) -> Option<Source> {
        let looks_like_path = name.contains('/')
            || Path::new(name)
                .extension()
                .is_some_and(|kind| kind == "yaml" || kind == "yml");
        match (looks_like_path, from) {
            (true, Some(from)) => read_beneath(from, name),
            (true, None) => read(Path::new(name)),
            (false, from) => from
                .and_then(|from| read_beneath(from, &format!("{name}.yaml")))
                .or_else(|| self.found_by_name(name))
                .or_else(|| self.built_in(name)),
        }
    }

    /// The bare names that would be found.
    pub(crate) fn names(self) -> Vec<String> {
        let mut names: Vec<String> = self
            .built_in
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        for folder in self.folders() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|kind| kind == "yaml") {
                    names.extend(
                        path.file_stem()
                            .map(|stem| stem.to_string_lossy().into_owned()),
                    );
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

impl Lookup for Files {
    fn find(&self, name: &str, from: Option<&str>) -> Option<Source> {
        Self::find(*self, name, from)
    }

    fn names(&self) -> Vec<String> {
        Self::names(*self)
    }
}

impl RecipeLookup for Files {
    fn find(&self, name: &str) -> Option<(String, String)> {
        Self::find(*self, name, None).map(|source| (source.name, source.text))
    }
}
