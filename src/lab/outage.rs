//! What an end of this machine that nobody prepared, such as a power loss, may have left of hosts' disks.
//!
//! ```text
//!  start ── writes `boot` ──> runs ── down, power off: the disks are flushed, `boot` goes
//!                               └──── this machine ends: `boot` names a boot that is over; the disks are checked
//!                                     before they are used again
//! ```

use std::io;
use std::path::{Path, PathBuf};

use super::bases::check_bases;
use super::layout::BOOT;
use super::{Event, LabError, Layout, Watch};
use crate::image::{self, CheckedDisk};
use crate::model::spec::DomainSpec;
use crate::storage;

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn directory(spec: &DomainSpec) -> &Path {
    spec.channel.parent().unwrap_or_else(|| Path::new("/"))
}

fn this_boot() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// Whether a host's guest was started in an earlier boot of this machine, and nobody has switched it off since then.
pub(super) fn cut_short(spec: &DomainSpec) -> bool {
    let started = std::fs::read_to_string(directory(spec).join(BOOT));
    matches!((started, this_boot()), (Ok(started), Ok(now)) if started.trim() != now)
}

/// The disks of a host that were in use when this machine ended, with what qemu-img says of each. Called where no process has
/// them.
async fn checked(spec: &DomainSpec) -> Result<Vec<(PathBuf, CheckedDisk)>, LabError> {
    let mut all = Vec::new();
    for disk in spec.disks.iter().filter(|disk| disk.path.exists()) {
        all.push((disk.path.clone(), image::check_disk(&disk.path).await?));
    }
    Ok(all)
}

/// What is wrong with the disks of a host that is off, where they were in use when this machine ended.
pub(crate) async fn damage(spec: &DomainSpec) -> Result<Vec<String>, LabError> {
    if !cut_short(spec) {
        return Ok(Vec::new());
    }
    let found = checked(spec).await?;
    let damage = found.iter().filter(|(_, found)| found.errors > 0);
    let damage = damage.map(|(path, found)| {
        format!(
            "{} was in use when this machine ended, and qemu-img check finds {} errors in it; `twin recover` mends what can be mended",
            path.display(),
            found.errors
        )
    });
    Ok(damage.collect())
}

/// Mends the disks of a host that is off, where they were in use when this machine ended; returns what was done.
pub(crate) async fn mend(spec: &DomainSpec) -> Result<Vec<String>, LabError> {
    if !cut_short(spec) {
        return Ok(Vec::new());
    }
    let host = directory(spec).file_name().unwrap_or_default();
    let host = host.to_string_lossy().into_owned();
    let mut done = Vec::new();
    for (path, found) in checked(spec).await? {
        if found.errors == 0 && found.leaks == 0 {
            continue;
        }
        if let Err(error) = image::mend_disk(&path).await {
            // What leaks takes space, and nothing else.
            if found.errors == 0 {
                continue;
            }
            return Err(LabError::DamagedDisk {
                host,
                path,
                errors: found.errors,
                why: error.to_string(),
            });
        }
        done.push(format!(
            "{host} was on when this machine ended: mended its disk ({} errors, {} clusters that nothing used)",
            found.errors, found.leaks
        ));
    }
    Ok(done)
}

/// Sees to a host's disks before its guest is started: what they lie on is what it was, and they have outlived the last end of
/// this machine.
pub(crate) async fn before_start(
    layout: &Layout,
    spec: &DomainSpec,
    watch: &dyn Watch,
) -> Result<(), LabError> {
    check_bases(layout, spec).await?;
    for done in mend(spec).await? {
        watch.tell(Event::Note(&done));
    }
    started(spec)
}

/// Writes down that a host's guest is started in this boot of this machine.
pub(crate) fn started(spec: &DomainSpec) -> Result<(), LabError> {
    let file = directory(spec).join(BOOT);
    let write = || storage::write(&file, format!("{}\n", this_boot()?).as_bytes(), 0o600);
    write().map_err(LabError::io(format!("writing {}", file.display())))
}

/// Sees to it that the disks of a host that was switched off are on the disk of this machine.
pub(super) async fn switched_off(spec: &DomainSpec) -> Result<(), LabError> {
    let (file, paths): (_, Vec<PathBuf>) = (
        directory(spec).join(BOOT),
        spec.disks.iter().map(|disk| disk.path.clone()).collect(),
    );
    let work = move || -> io::Result<()> {
        for path in paths.iter().filter(|path| path.exists()) {
            storage::sync_file(path)?;
        }
        storage::remove(&file).map(drop)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(LabError::io("flushing a disk"))
}
