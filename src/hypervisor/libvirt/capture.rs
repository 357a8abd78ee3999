//! Capturing through QEMU's monitor.
//!
//! Device state and disks go into an internal snapshot of the qcow2 files. QEMU leaves memory out of it where that is in a
//! shared file and the capability `x-ignore-shared` is on; left on, a later `virsh save` could not be restored, so it is
//! turned off again on every way out. The disks are named one by one: a firmware's variable store takes no snapshots, and
//! its content is in the device state anyway.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::domains::{ours, power_of};
use super::failure::Failure;
use super::memory::{self, ram_file};
use super::monitor::{monitor, refused, writable};
use super::xml;
use crate::hypervisor::{Anatomy, DiskState, DomainDisk, Memory, Power, Target};
use crate::image::Lent;
use crate::image::qcow2::{Qcow2, Qcow2Error};
use crate::model::Bearing;
use crate::model::spec::DomainSpec;

/// A job of QEMU's that takes longer is given up.
const JOB_DEADLINE: Duration = Duration::from_secs(600);

/// Between two looks at a job.
const JOB_LOOK: Duration = Duration::from_millis(8);

/// What QEMU says of a disk that cannot hold state, before it saves or loads any.
const NO_SNAPSHOTS: &str = "does not support snapshots";

/// Saved device state without memory is smaller.
const MOST_STATE: u64 = 32 << 20;

/// How often counts that are too low are looked at again.
const LOOKS_AT_COUNTS: u32 = 2;

/// The port of the device by which a guest tells that it has panicked, and what it writes there.
const PANIC_WRITE: &str = "o /b 0x505 1";

/// How long QEMU may take to pass the panic on.
const PANIC_DEADLINE: Duration = Duration::from_secs(10);

/// A disk that takes snapshots.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The file of the guest's disk.
    file: PathBuf,
    /// QEMU's name for it as a node.
    name: String,
    /// The device that the guest sees it as, by QEMU's path.
    device: String,
}

/// The disks that take snapshots. The monitor is a process that a guest may have taken over: it names the nodes, and
/// libvirt's definition names the files.
fn nodes(domain: &Domain) -> Result<Vec<Node>, Failure> {
    Ok(nodes_in(&writable(domain)?, &domain.get_xml_desc(0)?))
}

pub(super) fn nodes_in(blocks: &[Value], definition: &str) -> Vec<Node> {
    let files = xml::disk_files(definition);
    let nodes = blocks.iter().filter_map(|block| {
        // `/machine/peripheral/virtio-disk0/virtio-backend`
        let device = block["qdev"].as_str()?;
        let file = device.split('/').find_map(|part| files.get(part))?;
        Some(Node {
            file: file.clone(),
            name: block["inserted"]["node-name"].as_str()?.to_owned(),
            device: device.to_owned(),
        })
    });
    nodes.collect()
}

pub(super) fn anatomy(connection: &Connect, target: Target) -> Result<Anatomy, Failure> {
    let domain = ours(connection, target)?;
    let power = power_of(&domain)?;
    let process = domain.is_active()?;
    let definition =
        domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE)?;
    let live = process.then(|| domain.get_xml_desc(0)).transpose()?;
    let parts = xml::parts(live.as_deref().unwrap_or(&definition));
    let mut obstacles = parts.obstacles;
    let saved = domain.has_managed_save(0)?;
    if saved {
        let name = domain.get_name()?;
        obstacles.push(format!(
            "libvirt holds its memory in a managed save, which a baseline does not; switching it on goes on with that, `virsh managedsave-remove {name}` gives it up"
        ));
    }
    let (mut ram, mut emulator) = (None, None);
    if process {
        match monitor(&domain, &json!({"execute": "query-version"})) {
            Ok(version) => {
                emulator = version_of(&version);
                ram = ram_file(&domain, target);
                if nodes(&domain)?.is_empty() {
                    let why = "it has no qcow2 disk that could hold its device state";
                    obstacles.push(why.into());
                }
            }
            Err(failure) => obstacles.push(format!(
                "its monitor does not answer: {}",
                failure.into_error("query-version")
            )),
        }
    }
    Ok(Anatomy {
        power,
        process,
        saved,
        devices: live.as_deref().map(xml::devices),
        definition,
        machine: parts.machine,
        emulator,
        ram_file: ram,
        disks: parts.disks,
        taps: parts.taps,
        nvram: parts.nvram,
        obstacles,
    })
}

/// Reads what QEMU answers to `query-version`.
pub(super) fn version_of(answer: &Value) -> Option<String> {
    let part = |name: &str| answer["qemu"][name].as_u64();
    let (major, minor, micro) = (part("major")?, part("minor")?, part("micro")?);
    Some(format!("QEMU {major}.{minor}.{micro}"))
}

pub(super) fn write_back(connection: &Connect, target: Target) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    let live = domain.is_active()?;
    let Some(file) = live.then(|| ram_file(&domain, target)).flatten() else {
        return Ok(());
    };
    own_state(&domain)?;
    memory::write_back(target, &file)
}

/// Sees to it that disks do not share the clusters of their saved device state with a snapshot, as they do once QEMU has loaded
/// one: the next capture would have to give each of them up and take another, and QEMU flushes the disk three times for each,
/// while the guest stands still. That place is none of the guest's disk, and nothing reads it before it is written.
///
/// QEMU says what it could not write in the domain's log and not here. The next capture takes longer then.
fn own_state(domain: &Domain) -> Result<(), Failure> {
    for Node { file, device, .. } in nodes(domain)? {
        let shared = Qcow2::open(&file).and_then(|image| image.shared_vm_state());
        let bytes = match shared {
            // With memory in it, writing it anew would take longer than it saves.
            Ok(bytes) if (1..=MOST_STATE).contains(&bytes) => bytes,
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(file = %file.display(), %error, "device state stays shared");
                continue;
            }
        };
        for act in [&format!("write -q -b -P 0 0 {bytes}"), "flush"] {
            domain.qemu_monitor_command(
                &format!("qemu-io -d {device} \"{act}\""),
                sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
            )?;
        }
    }
    Ok(())
}

pub(super) fn start_paused(connection: &Connect, target: Target) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    if !domain.is_active()? {
        // A managed save is of other disks than those that are put back.
        let flags = sys::VIR_DOMAIN_START_PAUSED | sys::VIR_DOMAIN_START_FORCE_BOOT;
        domain.create_with_flags(flags)?;
    }
    Ok(())
}

pub(super) fn redefine(
    connection: &Connect,
    target: Target,
    definition: &str,
) -> Result<(), Failure> {
    ours(connection, target)?;
    let bearing = xml::mark(definition).zip(xml::identity(definition));
    let bearing =
        bearing.map(|(mark, (name, uuid))| (mark.borne_by::<DomainSpec>(uuid, &name), uuid));
    match bearing {
        Some((Bearing::Own(mark), uuid)) if mark.lab.uuid == target.lab && uuid == target.uuid => {
            Domain::define_xml(connection, definition)?;
            Ok(())
        }
        _ => Err(refused(
            "defining a domain",
            "the definition is not of this lab",
        )),
    }
}

fn ignore_shared(domain: &Domain, on: bool) -> Result<(), Failure> {
    let capabilities = json!([{"capability": "x-ignore-shared", "state": on}]);
    let command =
        json!({"execute": "migrate-set-capabilities", "arguments": {"capabilities": capabilities}});
    monitor(domain, &command).map(drop)
}

/// Saves or loads by the monitor's own words, which take every disk and say nothing where it went well. Quicker than a job
/// by the looks at it. No way for a domain with a firmware's variable store, which takes no snapshots: that is said before
/// anything is done, and a job names the disks one by one.
fn human_or_job(domain: &Domain, way: &Way, state: &str) -> Result<(), Failure> {
    let said = domain.qemu_monitor_command(
        &format!("{} {state}", way.monitor),
        sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
    )?;
    match said.trim() {
        "" => Ok(()),
        why if why.contains(NO_SNAPSHOTS) => job(domain, way.job, state),
        why => Err(refused(way.monitor, why)),
    }
}

/// Runs a job to its end.
fn job(domain: &Domain, verb: &str, state: &str) -> Result<(), Failure> {
    let nodes: Vec<String> = nodes(domain)?.into_iter().map(|node| node.name).collect();
    let id = format!("twin-{verb}");
    // One that a twin which was killed has left.
    let dismiss = json!({"execute": "job-dismiss", "arguments": {"id": id}});
    let _ = monitor(domain, &dismiss);
    let mut arguments = json!({"job-id": id, "tag": state, "devices": nodes});
    if verb != "snapshot-delete" {
        let Some(first) = nodes.first() else {
            return Err(refused(
                verb,
                "it has no qcow2 disk that could hold its device state",
            ));
        };
        arguments["vmstate"] = json!(first);
    }
    monitor(domain, &json!({"execute": verb, "arguments": arguments}))?;
    let until = Instant::now() + JOB_DEADLINE;
    loop {
        std::thread::sleep(JOB_LOOK);
        let jobs = monitor(domain, &json!({"execute": "query-jobs"}))?;
        let own = jobs
            .as_array()
            .into_iter()
            .flatten()
            .find(|job| job["id"] == id.as_str());
        match own {
            Some(job) if job["status"] == "concluded" => {
                let why = job["error"].as_str().map(str::to_owned);
                monitor(domain, &dismiss)?;
                return why.map_or(Ok(()), |why| Err(refused(verb, why)));
            }
            None => return Err(refused(verb, "the job has vanished")),
            Some(job) if Instant::now() > until => {
                return Err(refused(verb, format!("the job is still {}", job["status"])));
            }
            Some(_) => {}
        }
    }
}

fn with_memory(
    domain: &Domain,
    memory: Memory,
    act: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    if memory != Memory::File {
        return act();
    }
    ignore_shared(domain, true)?;
    let outcome = act();
    let off = ignore_shared(domain, false);
    outcome.and(off)
}

fn qemu_img(what: &str, arguments: &[&str], disk: &Path) -> Result<(), Failure> {
    // A chain with a file in it that is no disk of the lab's or its image is refused by twin's own reader.
    crate::image::qcow2::chain(disk).map_err(|error| refused(what, error.to_string()))?;
    let lent = Lent::new(disk).map_err(|error| {
        let why = format!("{} cannot be lent to qemu-img: {error}", disk.display());
        refused(what, why)
    })?;
    let output = lent
        .qemu_img(arguments, None)
        .output()
        .map_err(|error| refused(what, format!("qemu-img does not run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(what, lent.said(&output.stderr).trim()))
}

/// The qcow2 files that a domain which is off writes to.
fn files(domain: &Domain) -> Result<Vec<PathBuf>, Failure> {
    let definition = domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
    let disks = xml::parts(&definition).disks.into_iter();
    Ok(disks
        .filter(DomainDisk::holds_state)
        .filter_map(|disk| disk.path)
        .collect())
}

fn stands_still(connection: &Connect, target: Target) -> Result<Domain, Failure> {
    let domain = ours(connection, target)?;
    if power_of(&domain)? == Power::Running {
        return Err(refused("capturing or putting back", "it is running"));
    }
    Ok(domain)
}

/// Which way state goes, in the words of the monitor, of its jobs and of qemu-img.
struct Way {
    monitor: &'static str,
    job: &'static str,
    offline: &'static str,
}

const SAVE: Way = Way {
    monitor: "savevm",
    job: "snapshot-save",
    offline: "-c",
};

const LOAD: Way = Way {
    monitor: "loadvm",
    job: "snapshot-load",
    offline: "-a",
};

fn transfer(
    connection: &Connect,
    target: Target,
    state: &str,
    memory: Memory,
    way: &Way,
) -> Result<(), Failure> {
    let domain = stands_still(connection, target)?;
    if memory != Memory::None {
        return with_memory(&domain, memory, || human_or_job(&domain, way, state));
    }
    for disk in files(&domain)? {
        qemu_img(way.job, &["snapshot", way.offline, state], &disk)?;
    }
    Ok(())
}

pub(super) fn capture(
    connection: &Connect,
    target: Target,
    state: &str,
    memory: Memory,
) -> Result<(), Failure> {
    transfer(connection, target, state, memory, &SAVE)
}

pub(super) fn load(
    connection: &Connect,
    target: Target,
    state: &str,
    memory: Memory,
) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    // Of disks that are about to be others.
    if domain.has_managed_save(0)? {
        domain.managed_save_remove(0)?;
    }
    transfer(connection, target, state, memory, &LOAD)
}

pub(super) fn mark_crashed(connection: &Connect, target: Target) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    domain.qemu_monitor_command(PANIC_WRITE, sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)?;
    let until = Instant::now() + PANIC_DEADLINE;
    while power_of(&domain)? != Power::Crashed {
        if Instant::now() > until {
            return Err(refused(
                "making a domain count as crashed",
                "libvirt did not take it",
            ));
        }
        std::thread::sleep(JOB_LOOK);
    }
    Ok(())
}

/// Whether a file holds a snapshot of this name.
fn holds(disk: &Path, state: &str) -> Result<bool, Failure> {
    let snapshots = Qcow2::open(disk).and_then(|image| image.snapshots());
    let snapshots = snapshots
        .map_err(|error| refused("discarding a state", format!("{}: {error}", disk.display())))?;
    Ok(snapshots.iter().any(|snapshot| snapshot.name == state))
}

pub(super) fn discard(connection: &Connect, target: Target, state: &str) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    if domain.is_active()? {
        ignore_shared(&domain, false)?;
        let nodes = nodes(&domain)?;
        let held: Result<Vec<bool>, _> =
            nodes.iter().map(|node| holds(&node.file, state)).collect();
        if held?.contains(&true) {
            job(&domain, "snapshot-delete", state)?;
        }
        // A state that QEMU could not remove when the disk was full it has forgotten, and it is in the file all the same.
        for Node { file: disk, .. } in &nodes {
            if holds(disk, state)? {
                return Err(refused(
                    "discarding a state",
                    format!(
                        "{} has it still; `twin power cycle`, then again",
                        disk.display()
                    ),
                ));
            }
        }
        return Ok(());
    }
    for disk in files(&domain)? {
        if holds(&disk, state)? {
            qemu_img("discarding a state", &["snapshot", "-d", state], &disk)?;
        }
    }
    Ok(())
}

/// Clusters that are counted too low each time that is looked: what a guest writes meanwhile is so once at most.
fn undercounted(disk: &Path, image: &Qcow2<File>) -> Result<Vec<u64>, Qcow2Error> {
    let mut low = image.undercounted()?;
    for _ in 0..LOOKS_AT_COUNTS {
        if low.is_empty() {
            break;
        }
        let again = Qcow2::open(disk)?.undercounted()?;
        low.retain(|cluster| again.contains(cluster));
    }
    Ok(low)
}

/// Reads one disk's captured state.
pub(super) fn examine(disk: &Path, state: &str, content: bool) -> Result<DiskState, String> {
    let said = |error: Qcow2Error| format!("{}: {error}", disk.display());
    let image = Qcow2::open(disk).map_err(said)?;
    let snapshots = image.snapshots().map_err(said)?;
    let snapshot = snapshots
        .iter()
        .find(|snapshot| snapshot.name == state)
        .ok_or_else(|| format!("{} does not hold the captured state", disk.display()))?;
    if !content {
        let found = image.vm_state(snapshot).map_err(said)?;
        return Ok(DiskState {
            path: disk.to_owned(),
            state_sha256: found.sha256,
            state_bytes: found.bytes,
            content_sha256: None,
            content_bytes: 0,
        });
    }
    let found = image.checksums(snapshot).map_err(said)?;
    if image.header().incompatible.corrupt() {
        return Err(format!(
            "{}: QEMU has marked it as corrupt, and writes to it no more",
            disk.display()
        ));
    }
    let low = undercounted(disk, &image).map_err(said)?;
    if let Some(first) = low.first() {
        return Err(format!(
            "{}: {} clusters are counted too low, the first at {first}",
            disk.display(),
            low.len()
        ));
    }
    Ok(DiskState {
        path: disk.to_owned(),
        state_sha256: found.vm_state.sha256,
        state_bytes: found.vm_state.bytes,
        content_sha256: Some(found.disk),
        content_bytes: found.disk_bytes,
    })
}
