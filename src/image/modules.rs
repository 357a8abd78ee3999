//! Kernel modules: which files a set of modules needs, in loading order.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::ImageError;
use super::packages::run;

const DEPMOD: Duration = Duration::from_secs(120);

/// The modules of one kernel below a root.
pub(super) struct Modules {
    directory: PathBuf,
    /// By name with `_`: the file relative to the directory, and what it depends on.
    files: HashMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
}

fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Modules {
    /// Indexes the modules of kernel `version` below `root`.
    pub(super) async fn read(root: &Path, version: &str) -> Result<Self, ImageError> {
        let place = if root.join("lib/modules").join(version).exists() {
            "lib/modules"
        } else {
            "usr/lib/modules"
        };
        if place == "usr/lib/modules" && !root.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", root.join("lib"))
                .map_err(ImageError::io("linking /lib"))?;
        }
        run(
            Command::new("depmod").arg("-b").arg(root).arg(version),
            DEPMOD,
        )
        .await?;
        let directory = root.join(place).join(version);
        let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
        let files = read("modules.dep")
            .lines()
            .filter_map(|line| {
                let (file, needs) = line.split_once(':')?;
                Some((
                    name_of(file),
                    (
                        file.to_owned(),
                        needs.split_whitespace().map(str::to_owned).collect(),
                    ),
                ))
            })
            .collect();
        let builtin = read("modules.builtin").lines().map(name_of).collect();
        Ok(Self {
            directory,
            files,
            builtin,
        })
    }

    /// Returns the files of `names` with what they need, in loading order. Modules that are built in need no file, and
    /// ones that this kernel does not have are passed over: recipes serve several kernels.
    pub(super) fn in_order(&self, names: &[String]) -> Vec<String> {
        let mut ordered: Vec<String> = Vec::new();
        for name in names {
            let name = name.replace('-', "_");
            if self.builtin.contains(&name) {
                continue;
            }
            let Some((file, needs)) = self.files.get(&name) else {
                continue;
            };
            // modules.dep lists the nearest need first.
            for file in needs.iter().rev().chain([file]) {
                if !ordered.contains(file) {
                    ordered.push(file.clone());
                }
            }
        }
        ordered
    }

    /// Copies module files below `target`, unpacked: busybox and early boot read plain ones. Returns the new names.
    pub(super) async fn copy(
        &self,
        files: &[String],
        target: &Path,
    ) -> Result<Vec<String>, ImageError> {
        let mut copied = Vec::new();
        for file in files {
            let plain = file
                .trim_end_matches(".xz")
                .trim_end_matches(".zst")
                .trim_end_matches(".gz")
                .to_owned();
            let (from, to) = (self.directory.join(file), target.join(&plain));
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)
                    .map_err(ImageError::io("making a module directory"))?;
            }
            let unpacker = [(".xz", "xz"), (".zst", "zstd"), (".gz", "gzip")]
                .into_iter()
                .find(|(ending, _)| file.ends_with(ending));
            if let Some((_, tool)) = unpacker {
                let bytes = run(Command::new(tool).arg("-dc").arg(&from), DEPMOD).await?;
                std::fs::write(&to, bytes)
                    .map_err(ImageError::io(format!("writing {}", to.display())))?;
            } else {
                std::fs::copy(&from, &to)
                    .map_err(ImageError::io(format!("copying {}", from.display())))?;
            }
            copied.push(plain);
        }
        for list in [
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ] {
            // Not every kernel has each; depmod only warns.
            let _ = std::fs::copy(self.directory.join(list), target.join(list));
        }
        Ok(copied)
    }
}
