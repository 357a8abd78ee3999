//! `host-release`: gives a host back as MAAS does on release (D-018): off, with blank disks. Its own disks are put aside, and
//! are its disks again when that is put back.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::host_power;
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::{Power, PowerAction};
use crate::lab::allocated;
use crate::plan::moved_disk_blocks;
use crate::scenario::arguments::host_of;
use crate::scenario::footprint::{DISKS, Footprint, INSIDE, MEMORY};
use crate::scenario::{ActionError, World};
use crate::{image, storage};

pub(super) const NAME: &str = "host-release";

/// A blank disk takes less on this machine: the tables of an image without content.
const BLANK: u64 = 1 << 20;

#[derive(Debug)]
struct HostRelease {
    host: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
    #[serde(flatten)]
    before: host_power::Captured,
    disks: Vec<Disk>,
}

/// A disk of the host.
#[derive(Serialize, Deserialize)]
struct Disk {
    path: PathBuf,
    /// Where it is kept meanwhile.
    aside: PathBuf,
    /// Its inode: by that it is known again.
    inode: u64,
}

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    fields.finish(reader);
    Some(Box::new(HostRelease { host: host? }))
}

/// Whether a host has no process, which would have its disks open.
async fn stopped(world: &World, host: &str) -> Result<bool, ActionError> {
    let hypervisor = &world.drivers.hypervisor;
    Ok(!hypervisor.anatomy(world.target(host)?).await?.process)
}

fn inode(path: &Path) -> Result<u64, ActionError> {
    let found = std::fs::metadata(path).map_err(|error| failed("reading", path, &error))?;
    Ok(found.ino())
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> ActionError {
    ActionError::Target(format!("{what} {}: {error}", path.display()))
}

#[async_trait]
impl Action for HostRelease {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "release {}: off, its disks aside and blank ones in their place",
            self.host
        )
    }

    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let before = host_power::Captured::of(world, &self.host).await?;
        if before.power == Power::Paused {
            // Its memory would be lost with its disks, and it could not be paused again as it was.
            let why = format!("{} is paused", self.host);
            return Err(ActionError::Target(why));
        }
        let anatomy = world
            .drivers
            .hypervisor
            .anatomy(world.target(&self.host)?)
            .await?;
        let written = anatomy.disks.iter().filter(|disk| !disk.read_only);
        let now: Vec<PathBuf> = written.filter_map(|disk| disk.path.clone()).collect();
        let host = world.host(&self.host)?;
        if let Some((was, is)) = host.moved_disk(&now) {
            let blocked = moved_disk_blocks(&host.name, was, is);
            return Err(ActionError::Target(format!(
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
        let captured = Captured {
            disks: disks.collect::<Result<_, ActionError>>()?,
            before,
        };
        Ok(serde_json::to_value(captured)?)
    }

    async fn act(
        &self,
        world: &World,
        captured: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        host_power::power(world, &self.host, PowerAction::Destroy).await?;
        if !stopped(world, &self.host).await? {
            let why = format!("{} still runs; its disks were left alone", self.host);
            return Err(ActionError::Target(why));
        }
        let specs = &world.host(&self.host)?.spec.disks;
        for (disk, spec) in captured.disks.iter().zip(specs) {
            storage::rename(&disk.path, &disk.aside)
                .map_err(|error| failed("putting aside", &disk.path, &error))?;
            image::create_disk(spec)
                .await
                .map_err(|error| ActionError::Target(error.to_string()))?;
        }
        Ok(())
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let now = host_power::power_state(world, &self.host).await?;
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
        Ok(Verified::new(blank, seen))
    }
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let host = &captured.before.host;
    if captured.disks.iter().any(|disk| disk.aside.exists()) {
        host_power::power(world, host, PowerAction::Destroy).await?;
    }
    rename_back(&captured)?;
    for disk in &captured.disks {
        if inode(&disk.path)? != disk.inode {
            let why = format!("{} is another disk than before", disk.path.display());
            return Err(ActionError::Target(why));
        }
    }
    let power = host_power::again(world, &captured.before).await?;
    // Last: what makes a disk outlives a twin that was killed over it, for a moment.
    for disk in &captured.disks {
        image::remove_draft(&disk.path).map_err(|error| ActionError::Target(error.to_string()))?;
    }
    Ok(format!("{host} has its own disks; {power}"))
}

/// Gives the host its own disks back; tells whether there were any aside. Called where it has no process.
fn rename_back(captured: &Captured) -> Result<bool, ActionError> {
    let aside = captured.disks.iter().filter(|disk| disk.aside.exists());
    let mut some = false;
    for disk in aside {
        storage::rename(&disk.aside, &disk.path)
            .map_err(|error| failed("putting back", &disk.path, &error))?;
        some = true;
    }
    Ok(some)
}

/// The same before libvirtd runs; returns what was done.
pub(super) fn disks_back(captured: serde_json::Value) -> Result<Option<String>, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let some = rename_back(&captured)?;
    Ok(some.then(|| format!("{} has its own disks", captured.before.host)))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    // All that is inside the host is on its disks, or goes with their power.
    Footprint::default()
        .sets(DISKS)
        .reads(&[INSIDE])
        .reads(&[MEMORY])
}
