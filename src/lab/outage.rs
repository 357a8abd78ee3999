//! What a sudden end of this machine, such as a power loss, may have left of hosts' disks.
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
use crate::image::{self, CheckedDisk, Mended};
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

/// Whether a host's guest was started in an earlier boot of this machine, and twin has not switched it off since then.
pub(super) fn cut_short(spec: &DomainSpec) -> bool {
    cut_short_in(directory(spec))
}

fn cut_short_in(directory: &Path) -> bool {
    let started = std::fs::read_to_string(directory.join(BOOT));
    matches!((started, this_boot()), (Ok(started), Ok(now)) if started.trim() != now)
}

/// What qemu-img says of a disk; nothing where there is none. Called where no process has it.
async fn checked(disk: &Path) -> Result<Option<CheckedDisk>, LabError> {
    if !disk.exists() {
        return Ok(None);
    }
    Ok(Some(image::check_disk(disk).await?))
}

/// What is wrong with the disks of a host that is off, where they were in use when this machine ended.
pub(crate) async fn damage(spec: &DomainSpec) -> Result<Vec<String>, LabError> {
    if !cut_short(spec) {
        return Ok(Vec::new());
    }
    let mut damage = Vec::new();
    for disk in &spec.disks {
        let found = checked(&disk.path).await?.unwrap_or_default();
        if found.errors > 0 {
            damage.push(format!(
                "{} was in use when this machine ended, and qemu-img check finds {} errors in it; `twin recover` mends what can be mended",
                disk.path.display(),
                found.errors
            ));
        }
    }
    Ok(damage)
}

/// Mends the disks of a host that is off, where they were in use when this machine ended; returns what was done.
pub(crate) async fn mend(spec: &DomainSpec) -> Result<Vec<String>, LabError> {
    let mut done = Vec::new();
    for disk in &spec.disks {
        done.extend(mend_disk(&disk.path).await?);
    }
    Ok(done)
}

/// The same for one of its disks.
pub(super) async fn mend_disk(disk: &Path) -> Result<Option<String>, LabError> {
    let directory = disk.parent().unwrap_or(disk);
    if !cut_short_in(directory) {
        return Ok(None);
    }
    let host = directory.file_name().unwrap_or_default();
    let host = host.to_string_lossy().into_owned();
    let found = checked(disk).await?.unwrap_or_default();
    if found.errors == 0 && found.leaks == 0 {
        return Ok(None);
    }
    match image::mend_disk(disk).await? {
        Mended::Whole => Ok(Some(format!(
            "{host} was not switched off before this machine ended: mended its disk ({} errors, {} clusters that nothing used)",
            found.errors, found.leaks
        ))),
        // What leaks takes space, and nothing else.
        Mended::No(_) if found.errors == 0 => Ok(None),
        Mended::No(why) => Err(LabError::DamagedDisk {
            host,
            path: disk.to_owned(),
            errors: found.errors,
            why,
        }),
    }
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

/// Writes down that a host runs that another tool has started; one whose disks were not checked before stays known as that.
pub(super) fn runs(spec: &DomainSpec) -> Result<(), LabError> {
    if directory(spec).join(BOOT).exists() {
        return Ok(());
    }
    started(spec)
}

/// Sees to it that the disks of a host that was switched off are on the disk of this machine. Where they were not checked since
/// this machine last ended, that is still to be done.
pub(crate) async fn switched_off(spec: &DomainSpec) -> Result<(), LabError> {
    if cut_short(spec) {
        return Ok(());
    }
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

/// Forgets how a host's disks were used: they are blank.
pub(super) fn blanked(spec: &DomainSpec) -> Result<(), LabError> {
    let file = directory(spec).join(BOOT);
    let removed = storage::remove(&file).map(drop);
    removed.map_err(LabError::io(format!("removing {}", file.display())))
}
