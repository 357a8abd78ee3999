//! `host-release`: gives a host back as MAAS does on release (D-018): off, with blank disks. Its own disks are put aside, and
//! are its disks again when that is put back.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::power;
use crate::hypervisor::{Power, PowerAction};
use crate::lab::allocated;
use crate::plan::moved_disk_blocks;
use crate::scenario::fault::prelude::*;
use crate::{image, storage};

/// Its name in files and in the journal.
pub(crate) const NAME: &str = "host-release";

/// A blank disk takes less on this machine: the tables of an image without content.
const BLANK: u64 = 1 << 20;

/// Off, with blank disks, as MAAS releases; its own are put aside.
///
/// Revert: its disks and power before; services and instances that ran run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct HostRelease {
    host: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    #[serde(flatten)]
    before: power::Before,
    disks: Vec<Disk>,
}

/// A disk of the host.
#[derive(Debug, Serialize, Deserialize)]
struct Disk {
    path: PathBuf,
    /// Where it is kept meanwhile.
    aside: PathBuf,
    /// Its inode: by that it is known again.
    inode: u64,
}

fn footprint(host: &str) -> Footprint {
    // All that is inside the host is on its disks, or goes with their power.
    Footprint::of_host(host)
        .sets(DISKS)
        .reads(&[INSIDE])
        .reads(&[MEMORY])
}

/// Whether a host has no process, which would have its disks open.
async fn stopped(world: &World, host: &str) -> Result<bool, FaultError> {
    let hypervisor = &world.drivers.hypervisor;
    Ok(!hypervisor
        .inspection
        .anatomy(world.target(host)?)
        .await?
        .process)
}

fn inode(path: &Path) -> Result<u64, FaultError> {
    let found = std::fs::metadata(path).map_err(|error| failed("reading", path, &error))?;
    Ok(found.ino())
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> FaultError {
    FaultError::Target(format!("{what} {}: {error}", path.display()))
}

impl Fault for HostRelease {
    const NAME: &'static str = NAME;
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "release {}: off, its disks aside and blank ones in their place",
            self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let before = power::Before::of(world, &self.host).await?;
        if before.power == Power::Paused {
            // Its memory would be lost with its disks, and it could not be paused again as it was.
            let why = format!("{} is paused", self.host);
            return Err(FaultError::Target(why));
        }
        let anatomy = world
            .drivers
            .hypervisor
            .inspection
            .anatomy(world.target(&self.host)?)
            .await?;
        let written = anatomy.disks.iter().filter(|disk| !disk.read_only);
        let now: Vec<PathBuf> = written.filter_map(|disk| disk.path.clone()).collect();
        let host = world.host(&self.host)?;
        if let Some((was, is)) = host.moved_disk(&now) {
            let blocked = moved_disk_blocks(&host.name, was, is);
            return Err(FaultError::Target(format!(
                "{}: {}",
                self.host, blocked.why
            )));
        }
        let disks = host.spec.disks.iter().map(|disk| {
            let mut aside = disk.path.clone().into_os_string();
            aside.push(format!(".released-{}", &id[..12]));
            Ok(Disk {
                path: disk.path.clone(),
                aside: aside.into(),
                inode: inode(&disk.path)?,
            })
        });
        let captured = Before {
            disks: disks.collect::<Result<_, FaultError>>()?,
            before,
        };
        Ok(captured)
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        power::power(world, &self.host, PowerAction::Destroy).await?;
        if !stopped(world, &self.host).await? {
            let why = format!("{} still runs; its disks were left alone", self.host);
            return Err(FaultError::Target(why));
        }
        let specs = &world.host(&self.host)?.spec.disks;
        for (disk, spec) in captured.disks.iter().zip(specs) {
            storage::rename(&disk.path, &disk.aside)
                .map_err(|error| failed("putting aside", &disk.path, &error))?;
            image::create_disk(spec)
                .await
                .map_err(|error| FaultError::Target(error.to_string()))?;
        }
        Ok(())
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let now = power::power_state(world, &self.host).await?;
        let mut blank = stopped(world, &self.host).await?;
        let mut seen = format!("libvirt says that {} is {now:?}", self.host);
        for disk in &captured.disks {
            let bytes =
                allocated(&disk.path).map_err(|error| failed("reading", &disk.path, &error))?;
            blank &= disk.aside.exists() && bytes < BLANK;
            seen.push_str(&format!(
                "; {} takes {} KiB",
                disk.path.display(),
                bytes >> 10
            ));
        }
        Ok(Effectiveness::new(blank, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.before.host)
    }

    fn describe(&self) -> String {
        format!(
            "gives {} its own disks back, and the power that it had",
            self.before.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let host = &self.before.host;
        if self.disks.iter().any(|disk| disk.aside.exists()) {
            power::power(world, host, PowerAction::Destroy).await?;
        }
        rename_back(self)?;
        for disk in &self.disks {
            if inode(&disk.path)? != disk.inode {
                let why = format!("{} is another disk than before", disk.path.display());
                return Err(FaultError::Target(why));
            }
        }
        let power = power::again(world, &self.before).await?;
        // Last: what makes a disk outlives a twin that was killed over it, for a moment.
        for disk in &self.disks {
            image::remove_draft(&disk.path)
                .map_err(|error| FaultError::Target(error.to_string()))?;
        }
        Ok(format!("{host} has its own disks; {power}"))
    }

    fn revert_files(&self) -> Result<Option<String>, FaultError> {
        let some = rename_back(self)?;
        Ok(some.then(|| format!("{} has its own disks", self.before.host)))
    }
}

/// Gives the host its own disks back; tells whether there were any aside. Called where it has no process.
fn rename_back(captured: &Before) -> Result<bool, FaultError> {
    let aside = captured.disks.iter().filter(|disk| disk.aside.exists());
    let mut some = false;
    for disk in aside {
        storage::rename(&disk.aside, &disk.path)
            .map_err(|error| failed("putting back", &disk.path, &error))?;
        some = true;
    }
    Ok(some)
}
