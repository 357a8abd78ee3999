//! Capturing through QEMU's monitor.
//!
//! Device state and disks go into an internal snapshot of the qcow2 files. QEMU leaves memory out of it where that is in a
//! shared file and the capability `x-ignore-shared` is on; left on, a later `virsh save` could not be restored, so it is
//! turned off again on every way out. The disks are named one by one: a firmware's variable store takes no snapshots, and
//! its content is in the device state anyway.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid as RustixPid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::domains::{ours, power_of};
use super::failure::Failure;
use super::monitor::{monitor, refused, writable};
use super::xml;
use crate::hypervisor::{Anatomy, DiskState, DomainDisk, Memory, Power, Target};
use crate::image::Lent;
use crate::image::qcow2::{Qcow2, Qcow2Error};
use crate::model::Bearing;
use crate::model::spec::DomainSpec;
use crate::storage::{self, Guarded};

/// A job of QEMU's that takes longer is given up.
const JOB_DEADLINE: Duration = Duration::from_secs(600);

/// Between two looks at a job.
const JOB_LOOK: Duration = Duration::from_millis(8);

/// What QEMU says of a disk that cannot hold state, before it saves or loads any.
const NO_SNAPSHOTS: &str = "does not support snapshots";

/// How often counts that are too low are looked at again.
const LOOKS_AT_COUNTS: u32 = 2;

/// The port of the device by which a guest tells that it has panicked, and what it writes there.
const PANIC_WRITE: &str = "o /b 0x505 1";

/// How long QEMU may take to pass the panic on.
const PANIC_DEADLINE: Duration = Duration::from_secs(10);

/// The nodes of the disks that take snapshots, by file. The monitor is a process that a guest may have taken over: it names
/// the nodes, and libvirt's definition names the files.
fn nodes(domain: &Domain) -> Result<Vec<(PathBuf, String)>, Failure> {
    Ok(nodes_in(&writable(domain)?, &domain.get_xml_desc(0)?))
}

pub(super) fn nodes_in(blocks: &[Value], definition: &str) -> Vec<(PathBuf, String)> {
    let files = xml::disk_files(definition);
    let nodes = blocks.iter().filter_map(|block| {
        // `/machine/peripheral/virtio-disk0/virtio-backend`
        let mut device = block["qdev"].as_str()?.split('/');
        let file = device.find_map(|part| files.get(part))?;
        let node = block["inserted"]["node-name"].as_str()?;
        Some((file.clone(), node.to_owned()))
    });
    nodes.collect()
}

/// libvirt's settings for QEMU, and where it makes memory files when they do not say.
const QEMU_CONF: &str = "/etc/libvirt/qemu.conf";
const MEMORY_BACKING: &str = "/var/lib/libvirt/qemu/ram";

/// What libvirt takes of a domain's name for its directories (`conf/domain_conf.c`, `VIR_DOMAIN_SHORT_NAME_MAX`).
const SHORT_NAME: usize = 20;

/// The name of the file with all of a domain's memory.
const RAM: &str = "pc.ram";

/// Where libvirt makes memory files, by its settings.
fn memory_backing() -> PathBuf {
    let settings = std::fs::read_to_string(QEMU_CONF).unwrap_or_default();
    let set = settings.lines().rev().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let quoted = (name.trim() == "memory_backing_dir").then_some(value)?;
        quoted.trim().strip_prefix('"')?.split('"').next()
    });
    PathBuf::from(set.unwrap_or(MEMORY_BACKING))
}

/// The file that a running domain's memory is in, where it is in one that the process shares: in the directory that libvirt
/// makes for this start of the domain, and the very file that the process has mapped.
fn ram_file(domain: &Domain, target: Target) -> Option<Guarded> {
    let (id, name) = (domain.get_id()?, domain.get_name().ok()?);
    // twin's names are ASCII, of which libvirt takes the beginning.
    let short: String = name.chars().take(SHORT_NAME).collect();
    let backing = memory_backing();
    let below = Path::new("libvirt/qemu").join(format!("{id}-{short}"));
    let pid = super::domains::process(target).ok()?;
    let file = Guarded::new(&backing, &below.join(RAM));
    let inode = mapped(pid, &file.path())?;
    let file = file.with_inode(inode);
    let file = match storage::emulator() {
        Some((user, _)) => file.with_owners([user, 0]),
        None => file,
    };
    // One that is not what it has to be is none: the host is started anew where it is put back.
    if let Err(error) = file.open() {
        tracing::warn!(%error, "a memory file is not used");
        return None;
    }
    Some(file)
}

/// Device and inode of the file that a process has mapped shared under this name.
fn mapped(pid: nix::unistd::Pid, file: &Path) -> Option<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let (range, _) = mappings(&maps, file)
        .into_iter()
        .find(|(_, shared)| *shared)?;
    // A link of the kernel's own to the file itself, whatever its name leads to by now.
    let found = std::fs::metadata(format!("/proc/{pid}/map_files/{range}")).ok()?;
    Some((found.dev(), found.ino()))
}

/// The mappings of a file: the range as the kernel writes it, and whether it is shared.
fn mappings<'m>(maps: &'m str, file: &Path) -> Vec<(&'m str, bool)> {
    let lines = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        // Permissions, offset, device, inode, and the path behind some space.
        let mut parts = rest.splitn(5, ' ');
        let permissions = parts.next()?;
        let path = parts.nth(3)?.trim_start();
        (Path::new(path) == file).then_some((range, permissions.ends_with('s')))
    });
    lines.collect()
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

/// Folios of more bytes than this are split, so that one changed page is not written with its neighbours.
const COARSE: usize = 64 << 10;

const PAGE: usize = 4096;

/// The first page of each piece of a file that a process maps: address and length.
fn pages(maps: &str, file: &Path) -> Vec<(usize, usize)> {
    let hex = |text: &str| usize::from_str_radix(text, 16).ok();
    let mapped = mappings(maps, file).into_iter().filter_map(|(range, _)| {
        let (from, to) = range.split_once('-')?;
        Some((hex(from)?, hex(to)?))
    });
    mapped
        .flat_map(|(from, to)| (from..to).step_by(COARSE).map(|at| (at, PAGE)))
        .collect()
}

pub(super) fn write_back(connection: &Connect, target: Target) -> Result<(), Failure> {
    let domain = ours(connection, target)?;
    let live = domain.is_active()?;
    let Some(file) = live.then(|| ram_file(&domain, target)).flatten() else {
        return Ok(());
    };
    let failed = |error: std::io::Error| refused("writing memory back", error.to_string());
    file.open()
        .and_then(|memory| memory.sync_data())
        .map_err(failed)?;
    split(target, &file.path());
    Ok(())
}

pub(super) fn split_folios(
    connection: &Connect,
    target: Target,
    file: &Path,
) -> Result<(), Failure> {
    ours(connection, target)?;
    split(target, file);
    Ok(())
}

/// QEMU advises huge pages for all memory, so a file system with large folios reads memory in pieces of up to 2 MiB, and
/// one byte that the guest changes marks the whole piece dirty (Linux `iomap_page_mkwrite`). Clean ones are split here.
/// An old kernel cannot, and a process may have just ended; they stay large then.
fn split(target: Target, file: &Path) {
    let cooled = || -> Option<()> {
        let pid = super::domains::process(target).ok()?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let process = pidfd_open(RustixPid::from_raw(pid.as_raw())?, PidfdFlags::empty()).ok()?;
        super::ffi::cool(process.as_fd(), &pages(&maps, file)).ok()
    };
    if cooled().is_none() {
        tracing::debug!(file = %file.display(), "large folios of memory stay");
    }
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
    let nodes: Vec<String> = nodes(domain)?.into_iter().map(|(_, node)| node).collect();
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
        let held: Result<Vec<bool>, _> = nodes.iter().map(|(disk, _)| holds(disk, state)).collect();
        if held?.contains(&true) {
            job(&domain, "snapshot-delete", state)?;
        }
        // A state that QEMU could not remove when the disk was full it has forgotten, and it is in the file all the same.
        for (disk, _) in &nodes {
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
