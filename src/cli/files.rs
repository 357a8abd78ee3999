//! Where topologies, scenarios and image recipes are looked up: as a path, below the working directory, below the XDG
//! configuration directories, and in twin itself.

use std::path::{Path, PathBuf};

use crate::diagnostics::Source;
use crate::image::RecipeLookup;
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

impl Files {
    fn folders(self) -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::from(self.folder)];
        folders.extend(configuration().map(|base| base.join(self.folder)));
        folders
    }

    /// Finds a file by path or bare name.
    pub(crate) fn find(self, name: &str, from: Option<&str>) -> Option<Source> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path).ok()?;
            Some(Source {
                name: path.display().to_string(),
                text,
            })
        };
        let looks_like_path = name.contains('/')
            || Path::new(name)
                .extension()
                .is_some_and(|kind| kind == "yaml" || kind == "yml");
        if looks_like_path {
            let beside = from
                .and_then(|from| Path::new(from).parent())
                .map(|parent| parent.join(name));
            return beside
                .as_deref()
                .and_then(read)
                .or_else(|| read(Path::new(name)));
        }
        let file = format!("{name}.yaml");
        let beside = from
            .and_then(|from| Path::new(from).parent())
            .map(|parent| parent.join(&file));
        let built_in = || {
            self.built_in
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(known, text)| Source {
                    name: format!("{known}.yaml"),
                    text: (*text).to_owned(),
                })
        };
        beside
            .as_deref()
            .and_then(read)
            .or_else(|| {
                self.folders()
                    .iter()
                    .find_map(|folder| read(&folder.join(&file)))
            })
            .or_else(built_in)
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
