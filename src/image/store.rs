//! The cache of built images.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cloud::stands_alone;
use super::hash::{hex, sha256_of};
use super::pins::Pins;
use super::{
    Bases, ImageError, Kind, Progress, Recipe, RecipeLookup, Source, debian, measure, micro,
};
use crate::model::place::{BuiltImage, Overhead};
use crate::model::spec::Boot;
use crate::model::{AcceleratorChoice, Host};
use crate::storage::{self, Known, Users};
use crate::units::Mib;

/// Part of every hash: raised when a builder changes what it makes.
const BUILDER: &str = "1";

/// What stands beside a built image.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    recipe: String,
    cmdline: String,
    overhead: Overhead,
    disk_mib: Option<u64>,
}

/// The images of one state directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens the store below `directory`; nothing is made yet.
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the image for a host, where it is built already.
    pub fn cached(
        &self,
        host: &Host,
        lookup: &dyn RecipeLookup,
    ) -> Result<Option<BuiltImage>, ImageError> {
        match host.image.as_str() {
            "pxe" => Ok(Some(pxe())),
            "cloud" => Ok(None),
            name => {
                let recipe = Recipe::load(name, lookup)?;
                let place = self.place(&recipe, &guest_binary()?)?;
                Ok(read_manifest(&place).map(|manifest| built(&recipe, &place, &manifest)))
            }
        }
    }

    /// Checks that a file that disks lie on is what it was when they were made. Blocks where it has changed.
    pub fn check_base(&self, base: &Path) -> Result<(), ImageError> {
        Pins::of(&self.directory).check_known(base)
    }

    /// Pins a file as it is now: the disks on it were discarded. Blocks while it is read.
    pub fn renew_base(&self, base: &Path) -> Result<(), ImageError> {
        Pins::of(&self.directory).renew(base)
    }

    /// Takes images of an older twin's from users other than QEMU's; also those that it made beside a newer one.
    fn close(&self) -> Result<(), ImageError> {
        let open = |path: &Path| {
            let mode = path.metadata().map(|found| found.permissions().mode());
            mode.is_ok_and(|mode| mode & 0o006 != 0)
        };
        if !self.directory.exists() {
            return Ok(());
        }
        let all = open(&self.directory);
        let closing = || ImageError::io(format!("closing {}", self.directory.display()));
        for entry in std::fs::read_dir(&self.directory)
            .map_err(closing())?
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                if all || open(&path) {
                    finish(&path)?;
                }
            } else if open(&path) {
                storage::share_with_emulator(&path).map_err(closing())?;
            }
        }
        // Last: as long as it is open, the next `up` tries again.
        if all {
            storage::make_passage(&self.directory).map_err(closing())?;
        }
        Ok(())
    }

    /// Returns the image for a host, building or fetching it where needed.
    pub async fn provide(
        &self,
        host: &Host,
        lookup: &dyn RecipeLookup,
        accelerator: AcceleratorChoice,
        bases: &Bases,
        progress: Progress<'_>,
    ) -> Result<BuiltImage, ImageError> {
        self.close()?;
        if let Some(image) = self.cached(host, lookup)? {
            return Ok(image);
        }
        storage::make_passage(&self.directory).map_err(ImageError::io(format!(
            "making {}",
            self.directory.display()
        )))?;
        if host.image.as_str() == "cloud" {
            let (place, sha256) = host.source.clone().ok_or_else(|| ImageError::Unknown {
                name: "cloud without source".into(),
                known: Vec::new(),
            })?;
            progress("fetching the cloud image and checking its hash");
            let (path, size) = Source { place, sha256 }
                .local(&self.directory, bases)
                .await?;
            return Ok(cloud(size, path));
        }
        let recipe = Recipe::load(host.image.as_str(), lookup)?;
        let guest = guest_binary()?;
        // One build at a time: a second twin waits here and finds the image built.
        let lock = std::fs::File::create(self.directory.join("lock"))
            .map_err(ImageError::io("opening the image store's lock"))?;
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
            .await
            .map_err(|error| ImageError::Tool {
                tool: "waiting for the image store".into(),
                why: error.to_string(),
            })?
            .map_err(ImageError::io("locking the image store"))?;
        let place = self.place(&recipe, &guest)?;
        let manifest = match read_manifest(&place) {
            Some(manifest) => manifest,
            None => {
                self.build(&recipe, &guest, &place, accelerator, progress)
                    .await?
            }
        };
        drop(lock);
        Ok(built(&recipe, &place, &manifest))
    }

    async fn build(
        &self,
        recipe: &Recipe,
        guest: &Path,
        place: &Path,
        accelerator: AcceleratorChoice,
        progress: Progress<'_>,
    ) -> Result<Manifest, ImageError> {
        self.clear_drafts();
        let draft = tempfile::Builder::new()
            .prefix(".draft-")
            .tempdir_in(&self.directory)
            .map_err(ImageError::io("making a build directory"))?;
        let (scratch, out) = (draft.path().join("scratch"), draft.path().join("out"));
        for directory in [&scratch, &out] {
            std::fs::create_dir_all(directory)
                .map_err(ImageError::io(format!("making {}", directory.display())))?;
        }
        progress(&format!("building image {}", recipe.name));
        let (kernel, initrd) = (out.join("kernel"), out.join("initrd"));
        let (overhead, disk_mib) = match recipe.kind {
            Kind::Initramfs => {
                micro::build(recipe, guest, &scratch, &out).await?;
                progress(&format!("measuring image {}", recipe.name));
                (
                    measure::overhead(&kernel, &initrd, &recipe.cmdline, accelerator).await?,
                    None,
                )
            }
            Kind::Rootfs => {
                debian::build(recipe, guest, &scratch, &out, progress).await?;
                (ROOTFS_OVERHEAD, Some(stands_alone(&out.join(BASE_DISK))?.0))
            }
        };
        let manifest = Manifest {
            recipe: recipe.text.clone(),
            cmdline: recipe.cmdline.clone(),
            overhead,
            disk_mib,
        };
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        std::fs::write(out.join("manifest.json"), text)
            .map_err(ImageError::io("writing the image's manifest"))?;
        finish(&out)?;
        clear_half(place)?;
        storage::rename(&out, place)
            .map_err(ImageError::io(format!("keeping {}", place.display())))?;
        Ok(manifest)
    }

    /// Removes what builds left that were killed; called with the lock held.
    fn clear_drafts(&self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(".draft-"))
        {
            // What cannot be removed shows as a full disk at the latest.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }

    /// Returns the directory of an image, by the hash of all that goes into it.
    fn place(&self, recipe: &Recipe, guest: &Path) -> Result<PathBuf, ImageError> {
        let mut hash = Sha256::new();
        for part in [BUILDER, &recipe.text, &sha256_of(guest)?] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        Ok(self
            .directory
            .join(format!("{}-{}", recipe.name, &hex(&hash.finalize())[..12])))
    }
}

/// What a systemd guest takes for itself: observed 90 to 120 MiB with Debian 12 at rest.
const ROOTFS_OVERHEAD: Overhead = Overhead {
    fixed: Mib(160),
    per_gib_kib: 20 * 1024,
};

/// Removes an image without a manifest, which a power failure has left: a kernel and an initial RAM file system are read at a
/// guest's start only. Hosts' disks may lie on a base disk, and another one in its place would corrupt them: it stays.
fn clear_half(place: &Path) -> Result<(), ImageError> {
    if place.join(BASE_DISK).exists() {
        return Err(ImageError::Half {
            directory: place.to_owned(),
        });
    }
    let known = |path: &Path| match path.to_str() {
        Some("kernel" | "initrd" | "manifest.json") => Known::File,
        _ => Known::No,
    };
    let failed = || ImageError::io(format!("removing half an image, {}", place.display()));
    let left = storage::remove_known(place, &known, &Users::default()).map_err(failed())?;
    match left.first() {
        None => Ok(()),
        Some(left) => Err(failed()(std::io::Error::other(left.to_string()))),
    }
}

/// The base disk of an image with a root file system.
const BASE_DISK: &str = "disk.qcow2";

/// Lets QEMU's user read kernels, initrds and base disks, and sees to it that they are on the disk.
fn finish(out: &Path) -> Result<(), ImageError> {
    let shared = || -> std::io::Result<()> {
        storage::make_passage(out)?;
        for entry in std::fs::read_dir(out)? {
            let path = entry?.path();
            storage::share_with_emulator(&path)?;
            std::fs::File::open(&path)?.sync_all()?;
        }
        storage::sync_directory(out)
    };
    shared().map_err(ImageError::io(format!(
        "opening {} for qemu",
        out.display()
    )))
}

fn read_manifest(place: &Path) -> Option<Manifest> {
    serde_json::from_slice(&std::fs::read(place.join("manifest.json")).ok()?).ok()
}

fn built(recipe: &Recipe, place: &Path, manifest: &Manifest) -> BuiltImage {
    BuiltImage {
        boot: Boot::Kernel {
            kernel: place.join("kernel"),
            initrd: place.join("initrd"),
            cmdline: manifest.cmdline.clone(),
        },
        base: (recipe.kind == Kind::Rootfs).then(|| (place.join("disk.qcow2"), "qcow2".to_owned())),
        base_size: Mib(manifest.disk_mib.unwrap_or_default()),
        has_twin_guest: true,
        takes_seed: false,
        overhead: manifest.overhead,
    }
}

fn cloud(size: Mib, path: PathBuf) -> BuiltImage {
    BuiltImage {
        boot: Boot::Disk,
        base: Some((path, "qcow2".to_owned())),
        base_size: size,
        has_twin_guest: false,
        takes_seed: true,
        overhead: Overhead {
            fixed: Mib(256),
            per_gib_kib: 20 * 1024,
        },
    }
}

fn pxe() -> BuiltImage {
    BuiltImage {
        boot: Boot::Network,
        base: None,
        base_size: Mib(0),
        has_twin_guest: false,
        takes_seed: false,
        overhead: Overhead {
            fixed: Mib(64),
            per_gib_kib: 0,
        },
    }
}

/// Finds twin-guest: named by `TWIN_GUEST`, beside twin, or where it is installed.
fn guest_binary() -> Result<PathBuf, ImageError> {
    let named = std::env::var_os("TWIN_GUEST").map(PathBuf::from);
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(|directory| directory.join("twin-guest"));
    let looked: Vec<PathBuf> = named
        .into_iter()
        .chain(beside)
        .chain([
            PathBuf::from("/usr/local/lib/twin/twin-guest"),
            PathBuf::from("/usr/lib/twin/twin-guest"),
        ])
        .collect();
    looked
        .iter()
        .find(|path| path.is_file())
        .cloned()
        .ok_or(ImageError::GuestMissing { looked })
}
