//! What becomes of a host's disks: a file that is there is kept, unless it is asked to be discarded.

use std::path::{Path, PathBuf};

use super::{Act, Blocked, Desired, Observed, PresentDisk};
use crate::model::spec::{DiskSpec, DomainSpec};
use crate::units::Name;

/// What has to be done about a host's disks.
#[derive(Default)]
pub(super) struct Disks {
    /// Steps with the words of their ids.
    pub(super) steps: Vec<(String, Act)>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

/// How a host stands.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    /// Its domain is not there, or is made anew.
    pub(super) fresh: bool,
    /// Its domain is made anew because that was asked for.
    pub(super) replaced: bool,
    /// It runs, and goes on running.
    pub(super) running: bool,
}

/// Decides about the disks of `spec`, and writes into it what a kept disk has below it. Where one stands in the way, says so.
pub(super) fn settle(
    desired: &Desired,
    observed: &Observed,
    name: &Name,
    spec: &mut DomainSpec,
    host: Standing,
) -> Result<Disks, Blocked> {
    let mut disks = Disks::default();
    let blank = host.replaced && desired.blank;
    for (index, disk) in spec.disks.iter_mut().enumerate() {
        if !observed.files.contains(&disk.path) {
            if host.running {
                return Err(gone(desired, name, &disk.path));
            }
            if !host.fresh {
                let path = disk.path.display();
                let note = format!("{name}: its disk {path} is gone; a blank one takes its place");
                disks.notes.push(note);
            }
            disks
                .steps
                .push((format!("disk{index}"), Act::MakeDisk(disk.clone())));
            continue;
        }
        let users = observed.users.get(&disk.path);
        if let Some(users) = users.filter(|_| blank || host.fresh && !host.replaced) {
            return Err(in_use(name, &disk.path, users));
        }
        if blank {
            disks
                .steps
                .push((format!("blank{index}"), Act::BlankDisk(disk.clone())));
            continue;
        }
        if host.fresh && !host.replaced {
            let path = disk.path.display();
            disks
                .notes
                .push(format!("{name} takes up its disk again, {path}"));
        }
        let there = match observed.disks.get(&disk.path) {
            None => continue,
            // Its process has it; what is wrong with it is libvirt's to say.
            Some(Err(_)) if !host.fresh => continue,
            Some(Err(why)) => return Err(unusable(desired, name, &disk.path, why)),
            Some(Ok(there)) => there,
        };
        if host.running {
            continue;
        }
        if let Some(note) = backing(desired, name, disk, there, host.fresh)? {
            disks.notes.push(note);
        }
        if there.size > disk.size {
            return Err(too_large(desired, name, &disk.path, there, disk.size));
        }
        if there.size < disk.size {
            if let Some(users) = users {
                return Err(in_use(name, &disk.path, users));
            }
            if there.holds_states {
                return Err(holds_states(name, &disk.path, there, disk.size));
            }
            disks
                .steps
                .push((format!("grow{index}"), Act::GrowDisk(disk.clone())));
        }
    }
    Ok(disks)
}

/// Takes over what is below a disk that is there; returns a note where there is something to say of it.
fn backing(
    desired: &Desired,
    name: &Name,
    disk: &mut DiskSpec,
    there: &PresentDisk,
    fresh: bool,
) -> Result<Option<String>, Blocked> {
    if !there.backing_is_there
        && let Some((below, _)) = &there.backing
    {
        let why = format!("the file below it, {}, is gone", below.display());
        return Err(unusable(desired, name, &disk.path, &why));
    }
    match (&there.backing, &mut disk.backing) {
        (Some(_), None) | (None, Some(_)) => {
            let why = "it was made for another image";
            return Err(unusable(desired, name, &disk.path, why));
        }
        (Some(below), Some(wanted)) if below.0 != wanted.0 => {
            let note = format!(
                "{name} keeps the build of its image that is below its disk, {}",
                below.0.display()
            );
            wanted.clone_from(below);
            disk.size = disk.size.max(there.size);
            return Ok(fresh.then_some(note));
        }
        _ => {}
    }
    Ok(None)
}

/// The first disk that a domain's definition has elsewhere than its mark says.
pub fn moved<'d>(made: &'d DomainSpec, is: &'d [PathBuf]) -> Option<(&'d Path, Option<&'d Path>)> {
    let mut all = made.disks.iter().enumerate();
    let (index, disk) = all.find(|(index, disk)| is.get(*index) != Some(&disk.path))?;
    Some((&disk.path, is.get(index).map(PathBuf::as_path)))
}

/// Refuses to act on a host whose disk is another than it was made with.
pub fn moved_blocks(name: &Name, was: &Path, is: Option<&Path>) -> Blocked {
    let was = was.display();
    let why = match is {
        Some(is) => format!(
            "its disk is {} now, and was made as {was}: another tool has made a snapshot of it, or moved it",
            is.display()
        ),
        None => format!("its disk {was} has been taken out of its definition"),
    };
    Blocked {
        thing: name.to_string(),
        why,
        cure: "`virsh snapshot-list` and `virsh blockcommit` show and merge another tool's snapshot; then run the same command again".into(),
    }
}

fn gone(desired: &Desired, name: &Name, path: &Path) -> Blocked {
    Blocked {
        thing: name.to_string(),
        why: format!(
            "its disk {} has been removed while it runs: what is on it ends with its process",
            path.display()
        ),
        cure: format!(
            "copy what matters out of it with `twin cp`; `twin power off {name}`, then `{}`, starts it on a blank disk",
            desired.again
        ),
    }
}

/// Refuses to discard a disk that another domain uses.
pub fn in_use(name: &Name, path: &Path, users: &[String]) -> Blocked {
    Blocked {
        thing: name.to_string(),
        why: format!("{} uses its disk {}", users.join(", "), path.display()),
        cure: "give that domain a disk of its own first; the disk is left as it is".into(),
    }
}

fn unusable(desired: &Desired, name: &Name, path: &Path, why: &str) -> Blocked {
    Blocked {
        thing: name.to_string(),
        why: format!("{} is there, and cannot be its disk: {why}", path.display()),
        cure: format!(
            "move it away, or discard it: `{} --replace {name} --blank`",
            desired.again
        ),
    }
}

fn too_large(
    desired: &Desired,
    name: &Name,
    path: &Path,
    there: &PresentDisk,
    wanted: crate::units::Mib,
) -> Blocked {
    let cure = format!(
        "ask for at least what it has, or discard it: `{} --replace {name} --blank`",
        desired.again
    );
    not_resized(
        name,
        path,
        there,
        wanted,
        ("a disk is never made smaller", cure),
    )
}

fn holds_states(
    name: &Name,
    path: &Path,
    there: &PresentDisk,
    wanted: crate::units::Mib,
) -> Blocked {
    let why = "baselines are in it, which a disk of another size is not put back to";
    let cure = "`twin snapshots` lists them, `twin snapshot NAME --remove` removes one; then run the same command again";
    not_resized(name, path, there, wanted, (why, cure.into()))
}

fn not_resized(
    name: &Name,
    path: &Path,
    there: &PresentDisk,
    wanted: crate::units::Mib,
    (why, cure): (&str, String),
) -> Blocked {
    let (path, size) = (path.display(), there.size);
    Blocked {
        thing: name.to_string(),
        why: format!("its disk {path} has {size}, and {wanted} is asked for: {why}"),
        cure,
    }
}
