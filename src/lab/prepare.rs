//! From a topology to what is wanted on this machine.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::bases::bases_in_use;
use super::observe::{available_memory, observe};
use super::space::free_disk;
use super::{Drivers, Event, Found, LabError, Layout, Lock, Watch};
use crate::hypervisor::Machine;
use crate::image::{RecipeLookup, Store};
use crate::model::place::{self, BuiltImage, Overhead};
use crate::model::spec::Boot;
use crate::model::{
    AcceleratorChoice, Host, ImageName, LabRecord, NetworkMode, Placed, RamBacking, Scale, Topology,
};
use crate::plan::{self, Desired, Observed, Plan, Wanted};
use crate::units::{Mib, Name};

/// Chooses the accelerator.
#[async_trait]
pub trait AcceleratorProbe: Send + Sync {
    /// Returns the accelerator that boots fastest here.
    async fn choose(&self) -> Result<AcceleratorChoice, LabError>;
}

/// What is asked for.
pub struct Request<'r> {
    /// The topology.
    pub topology: Topology,
    /// The lab's name; the topology's where none is given.
    pub lab: Option<Name>,
    /// The scale; chosen where none is given.
    pub scale: Option<Scale>,
    /// The accelerator; probed where none is given.
    pub accelerator: Option<AcceleratorChoice>,
    /// Only the hosts whose names match.
    pub only: Option<String>,
    /// An image for all hosts.
    pub image: Option<ImageName>,
    /// Hosts to make anew; their disks stay.
    pub replace: BTreeSet<Name>,
    /// Whether their disks are discarded too.
    pub blank: bool,
    /// Stand-in timers over 60 s are divided by this.
    pub time_scale: u32,
    /// Whether images may be built: not for a dry run.
    pub build: bool,
    /// The command that asks, with another lab's name: what to say where that would work.
    pub command: &'r (dyn Fn(&str) -> String + Sync),
    /// Where recipes come from.
    pub recipes: &'r (dyn RecipeLookup + Sync),
    /// The accelerator probe.
    pub probe: &'r dyn AcceleratorProbe,
}

/// What `up` is about to do.
pub struct Prepared {
    /// The lab.
    pub placed: Placed,
    /// The steps.
    pub plan: Plan,
    /// What is wanted, for those that carry the steps out.
    pub desired: Desired,
    /// Images by host.
    pub images: BTreeMap<Name, BuiltImage>,
    /// Held until the lab's networks are up; a dry run holds none.
    pub machine_lock: Option<Lock>,
    /// Held for as long as the lab is being changed; a dry run holds none.
    pub lab_lock: Option<Lock>,
}

/// Finds out which of the lab's disks other domains use.
async fn disk_users(
    drivers: &Drivers,
    found: &Found,
    observed: &Observed,
) -> Result<BTreeMap<std::path::PathBuf, Vec<String>>, LabError> {
    let users = super::users::users(drivers, found).await?;
    let used = observed
        .disks
        .keys()
        .map(|disk| (disk.clone(), users.of(disk).to_vec()));
    Ok(used.filter(|(_, users)| !users.is_empty()).collect())
}

/// Returns the identity of the lab `name` on a machine: the same from any state directory.
fn lab_uuid(machine: Uuid, name: &Name) -> Uuid {
    Uuid::new_v5(&machine, format!("lab/{name}").as_bytes())
}

/// Finds out what has to be done. Nothing of the lab is changed; images may be built.
pub async fn prepare(
    mut request: Request<'_>,
    drivers: &Drivers,
    layout: &Layout,
    watch: &dyn Watch,
) -> Result<Prepared, LabError> {
    layout.need_pool()?;
    let machine = drivers.hypervisor.inventory.machine().await?;
    let name = request
        .lab
        .clone()
        .unwrap_or_else(|| request.topology.name.clone());
    let uuid = match existing(drivers, layout, &name).await? {
        Some(found) => found.record.uuid,
        None => lab_uuid(machine.uuid, &name),
    };
    let clock = drivers.clock.as_ref();
    let lock = || Lock::lab(uuid, name.as_str(), "up", clock);
    let lab_lock = request.build.then(lock).transpose()?;
    boot_from_image(&mut request);
    // What was found before the lock was taken may be old.
    let found = existing(drivers, layout, &name).await?;
    let existing = found.as_ref().map(|found| found.record.clone());
    if let Some(record) = &existing {
        same_topology(&request, record)?;
        decided_already(&request, record)?;
    }
    let accelerator = match (&existing, request.accelerator) {
        (Some(record), _) => record.accelerator,
        (None, Some(chosen)) => chosen,
        (None, None) => request.probe.choose().await?,
    };
    let directory = layout.lab(uuid);
    let replaced = request.replace.iter().filter(|_| request.blank);
    let discarded: Vec<_> = replaced.map(|host| directory.join(host.as_str())).collect();
    let images = provide_images(&request, layout, accelerator, &discarded, watch).await?;
    let machine_lock = if request.build {
        Some(Lock::machine("up", clock).await?)
    } else {
        None
    };
    let mut observed = observe(drivers, layout, &directory).await?;
    // A disk that another domain uses is neither discarded nor taken up.
    if let Some(found) = found.filter(|_| !observed.disks.is_empty()) {
        observed.users = disk_users(drivers, &found, &observed).await?;
    }
    let new = || {
        let (images, observed) = (&images, &observed);
        new_record(&request, name, uuid, accelerator, images, observed, layout)
    };
    let record = existing.map_or_else(new, Ok)?;
    let only = chosen(&request, &record, &observed)?;
    let placed = place(&request, record)?;
    let desired = desire(&placed, &images, &machine, &request, only, directory);
    let conflicts = plan::conflicts(&desired, &observed);
    if !conflicts.is_empty() {
        let instead = other_lab(drivers, layout, &request, &observed).await?;
        return Err(LabError::Conflicts { conflicts, instead });
    }
    let plan = plan::make(&desired, &observed);
    Ok(Prepared {
        placed,
        plan,
        desired,
        images,
        machine_lock,
        lab_lock,
    })
}

/// The topology as this lab.
fn place(request: &Request<'_>, record: LabRecord) -> Result<Placed, LabError> {
    let lab = record.name.to_string();
    Placed::new(request.topology.clone(), record).ok_or(LabError::NoAddresses { lab })
}

/// Has all hosts boot the image that was asked for.
fn boot_from_image(request: &mut Request<'_>) {
    let Some(image) = &request.image else { return };
    for host in &mut request.topology.hosts {
        host.image.clone_from(image);
        host.source = None;
    }
}

/// Refuses a lab that was made from another topology.
fn same_topology(request: &Request<'_>, record: &LabRecord) -> Result<(), LabError> {
    if record.topology == request.topology.name {
        return Ok(());
    }
    Err(LabError::OtherTopology {
        lab: record.name.to_string(),
        was: record.topology.to_string(),
        asked: request.topology.name.to_string(),
        instead: (request.command)("NAME"),
    })
}

/// Finds the lab by its name. Its UUID is in its marks: another machine-id, or a lab of before that, makes another one of the
/// same name.
async fn existing(
    drivers: &Drivers,
    layout: &Layout,
    lab: &Name,
) -> Result<Option<Found>, LabError> {
    let labs = super::find_all(drivers, layout).await?;
    Ok(labs.into_iter().find(|found| found.record.name == *lab))
}

async fn provide_images(
    request: &Request<'_>,
    layout: &Layout,
    accelerator: AcceleratorChoice,
    discarded: &[std::path::PathBuf],
    watch: &dyn Watch,
) -> Result<BTreeMap<Name, BuiltImage>, LabError> {
    let store = Store::new(layout.images());
    let bases = bases_in_use(layout, discarded);
    let mut images = BTreeMap::new();
    for host in &request.topology.hosts {
        let image = if request.build {
            layout.see_to_pool()?;
            let progress = |what: &str| watch.tell(Event::Note(what));
            store
                .provide(host, request.recipes, accelerator, &bases, &progress)
                .await?
        } else {
            store
                .cached(host, request.recipes)?
                .unwrap_or_else(|| not_built(host))
        };
        images.insert(host.name.clone(), image);
    }
    Ok(images)
}

/// Stands for an image in a dry run.
fn not_built(host: &Host) -> BuiltImage {
    let place = |file: &str| {
        std::path::PathBuf::from(format!("(image {} not built yet)/{file}", host.image))
    };
    let cloud = host.image.as_str() == "cloud";
    BuiltImage {
        boot: if cloud {
            Boot::Disk
        } else {
            Boot::Kernel {
                kernel: place("kernel"),
                initrd: place("initrd"),
                cmdline: String::new(),
            }
        },
        base: cloud.then(|| (place("disk.qcow2"), "qcow2".to_owned())),
        base_size: Mib(0),
        has_twin_guest: !cloud,
        takes_seed: cloud,
        overhead: Overhead {
            fixed: Mib(128),
            per_gib_kib: 20 * 1024,
        },
    }
}

fn new_record(
    request: &Request<'_>,
    name: Name,
    uuid: Uuid,
    accelerator: AcceleratorChoice,
    images: &BTreeMap<Name, BuiltImage>,
    observed: &Observed,
    layout: &Layout,
) -> Result<LabRecord, LabError> {
    let topology = &request.topology;
    let scale = match request.scale {
        Some(scale) => scale,
        None => auto_scale(topology, images, layout)?,
    };
    let shift = if name == topology.name {
        0
    } else {
        plan::free_shift(topology, observed).ok_or_else(|| LabError::NoAddresses {
            lab: name.to_string(),
        })?
    };
    Ok(LabRecord {
        uuid,
        name,
        topology: topology.name.clone(),
        scale,
        accelerator,
        shift,
        time_scale: request.time_scale,
        state: Some(layout.state().to_owned()),
    })
}

fn auto_scale(
    topology: &Topology,
    images: &BTreeMap<Name, BuiltImage>,
    layout: &Layout,
) -> Result<Scale, LabError> {
    let memory = |scale: Scale| -> Mib {
        let one = |host: &Host| {
            images.get(&host.name).map_or(Mib(0), |image| {
                image.overhead.on_top_of(scale.effective(host.memory))
            })
        };
        topology.hosts.iter().map(one).sum()
    };
    let disk = |scale: Scale| -> Mib {
        let one = |host: &Host| {
            let disks: Mib = host
                .disks
                .iter()
                .map(|disk| scale.effective(disk.size))
                .sum();
            let base = images
                .get(&host.name)
                .map_or(Mib(0), |image| image.base_size);
            let ram = if host.ram == RamBacking::File {
                scale.effective(host.memory)
            } else {
                Mib(0)
            };
            disks.max(base) + ram
        };
        topology.hosts.iter().map(one).sum()
    };
    let (available, free) = (available_memory(), free_disk(layout));
    // A scale whose disks do not fit is as bad as one whose memory does not.
    let need = |scale: Scale| {
        if disk(scale) > free {
            Mib(u64::MAX >> 20)
        } else {
            memory(scale)
        }
    };
    Scale::choose(available, need).ok_or_else(|| LabError::NoScale {
        largest: Scale::LARGEST.divisor(),
        need: memory(Scale::LARGEST),
        available,
    })
}

fn desire(
    placed: &Placed,
    images: &BTreeMap<Name, BuiltImage>,
    machine: &Machine,
    request: &Request<'_>,
    only: Option<BTreeSet<Name>>,
    directory: std::path::PathBuf,
) -> Desired {
    let wanted = placed.hosts.iter().filter_map(|host| {
        let image = images.get(&host.host.name)?;
        let shape = place::Machine {
            lab_directory: &directory,
            cpus: machine.cpus,
        };
        Some(Wanted {
            domain: place::domain_spec(placed, host, image, shape),
            answers: image.has_twin_guest || image.takes_seed,
        })
    });
    Desired {
        lab: placed.record.uuid,
        networks: placed
            .networks
            .iter()
            .filter_map(|network| place::network_spec(placed, network))
            .collect(),
        domains: wanted.collect(),
        replace: request.replace.clone(),
        blank: request.blank,
        again: (request.command)(placed.record.name.as_str()),
        only,
        directory,
    }
}

/// Refuses what is asked for otherwise than it was decided when the lab was made.
fn decided_already(request: &Request<'_>, record: &LabRecord) -> Result<(), LabError> {
    let decided = |was: String, asked: String| LabError::Decided {
        lab: record.name.to_string(),
        was,
        asked,
    };
    if let Some(scale) = request.scale.filter(|scale| *scale != record.scale) {
        let at = |scale: Scale| format!("at scale {scale}");
        return Err(decided(at(record.scale), format!("scale {scale}")));
    }
    match request.accelerator {
        Some(asked) if asked != record.accelerator => Err(decided(
            format!("to run under {}", record.accelerator.as_str()),
            asked.as_str().to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The hosts that `--only` names; nothing where it was not given. Refuses patterns and names of `--only` and `--replace` that
/// match no host: they are mistyped.
fn chosen(
    request: &Request<'_>,
    record: &LabRecord,
    observed: &Observed,
) -> Result<Option<BTreeSet<Name>>, LabError> {
    let hosts: BTreeSet<Name> = request
        .topology
        .hosts
        .iter()
        .map(|host| host.name.clone())
        .collect();
    let nothing = |flag: &'static str, asked: &str| LabError::NoSuchHosts {
        flag,
        asked: asked.to_owned(),
        lab: record.name.to_string(),
        known: hosts.iter().map(ToString::to_string).collect(),
    };
    // One that the topology does not have any more is removed by replacing it.
    let present = observed
        .domains
        .iter()
        .filter_map(|domain| domain.mark.as_ref());
    let there: BTreeSet<&Name> = present
        .filter(|mark| mark.lab.uuid == record.uuid)
        .map(|mark| &mark.thing)
        .collect();
    let unknown = |name: &&Name| !hosts.contains(*name) && !there.contains(name);
    if let Some(name) = request.replace.iter().find(unknown) {
        return Err(nothing("--replace", name.as_str()));
    }
    let Some(pattern) = request.only.as_deref() else {
        return Ok(None);
    };
    let only: BTreeSet<Name> = hosts
        .iter()
        .filter(|name| glob(pattern, name.as_str()))
        .cloned()
        .collect();
    if only.is_empty() {
        return Err(nothing("--only", pattern));
    }
    Ok(Some(only))
}

/// Matches `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    match (pattern.next(), text.clone().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = pattern.as_str();
            std::iter::once(text.as_str())
                .chain(std::iter::from_fn(|| text.next().map(|_| text.as_str())))
                .any(|tail| glob(rest, tail))
        }
        (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
            text.next();
            glob(pattern.as_str(), text.as_str())
        }
        _ => false,
    }
}

/// Returns the command that makes the same lab beside what is in the way.
async fn other_lab(
    drivers: &Drivers,
    layout: &Layout,
    request: &Request<'_>,
    observed: &Observed,
) -> Result<Option<String>, LabError> {
    const TRIES: u32 = 100;
    let fixed = request
        .topology
        .networks
        .iter()
        .any(|network| network.mode == NetworkMode::Bridge && network.bridge.is_none());
    if fixed || plan::free_shift(&request.topology, observed).is_none() {
        return Ok(None);
    }
    let known: BTreeSet<String> = super::find_all(drivers, layout)
        .await?
        .into_iter()
        .map(|lab| lab.record.name.to_string())
        .collect();
    let base = request.lab.as_ref().unwrap_or(&request.topology.name);
    let starts = |name: &str| format!("{name}-");
    let free = (2..TRIES)
        .map(|number| format!("{base}-{number}"))
        .find(|name| {
            !known.contains(name)
                && !observed
                    .domains
                    .iter()
                    .any(|domain| domain.name.starts_with(&starts(name)))
                && !observed
                    .networks
                    .iter()
                    .any(|network| network.name.starts_with(&starts(name)))
        });
    Ok(free.map(|name| (request.command)(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_shells_do() {
        assert!(glob("openstack*", "openstack1"));
        assert!(glob("*", ""));
        assert!(glob("*1", "openstack1"));
        assert!(glob("a?c", "abc"));
        assert!(!glob("openstack?", "openstack"));
        assert!(!glob("b*", "abc"));
    }
}
