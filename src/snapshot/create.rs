//! Taking a baseline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use uuid::Uuid;

use super::files::{self, Way};
use super::manifest::{self, DiskRecord, FileRecord, HostRecord, Manifest, state_name};
use super::preflight::{Preflight, RESERVE, preflight};
use super::recover::SNAPSHOT;
use super::set::{LetGo, Plan, Set, blocking, flush, remove_directory};
use super::{Rung, SelfTest, SnapshotError};
use crate::hypervisor::{Anatomy, Memory, Power, PowerAction};
use crate::image::qcow2;
use crate::journal::OperationId;
use crate::lab::{Event, FoundHost, MORE_SPACE, allocated, free_disk};
use crate::storage::Guarded;

/// A file that keeps some space: taking an attempt back takes some where the disk has run full. QEMU forgets a state that
/// it cannot remove from the file.
const BALLAST: &str = "ballast";
const BALLAST_BYTES: u64 = 16 << 20;

/// Hosts that stand still for longer than this are let go on, and there is no baseline. One whose QEMU does not answer, since it
/// waits for a disk, stays as it is, and the lab is DIRTY.
const PAUSE: Duration = Duration::from_secs(60);

/// MiB of memory that a slow disk takes in a second.
const SLOWEST_COPY: u64 = 20;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The baseline's name.
    pub name: String,
    /// A remark.
    pub note: Option<String>,
    /// The run of a scenario that asks for it.
    pub run: Option<String>,
    /// The rung, where one is insisted on.
    pub mode: Option<Rung>,
    /// What has to hold; empty where nothing has to.
    pub gates: Vec<String>,
    /// What is not put back, for the gate about it.
    pub dirty: Vec<String>,
    /// Whether hosts are captured one after the other, each standing still by itself. Such a set was never so at one
    /// moment: this is for tests, which show that they would notice.
    pub without_barrier: bool,
}

/// What was taken.
#[derive(Clone, Debug)]
pub struct Created {
    /// The baseline.
    pub manifest: Manifest,
    /// From the first host that was asked to stand still until the last one ran again.
    pub set_pause: Duration,
    /// All of it.
    pub wall: Duration,
    /// Bytes by which the baseline and the disks grew.
    pub bytes_written: u64,
}

/// Takes a baseline. Where it fails, the lab runs on as it did and nothing of it is left.
pub async fn create(
    set: Set<'_>,
    request: &Request,
    self_test: Option<&SelfTest>,
    interrupted: &watch::Receiver<bool>,
) -> Result<Created, SnapshotError> {
    let started = set.drivers.clock.elapsed();
    set.held()?;
    set.mend().await?;
    let preflight = preflight(&set, request, self_test).await?;
    let id = Uuid::new_v4();
    let running = preflight
        .parts
        .iter()
        .filter(|(_, part)| part.power == Power::Running)
        .map(|(name, _)| name.clone())
        .collect();
    let plan = Plan {
        name: request.name.clone(),
        id,
        running,
    };
    let text = serde_json::to_string(&plan).unwrap_or_default();
    let _on_duty = set.stand_by();
    let operation = set.journal.begin(set.lab(), SNAPSHOT, &text)?;
    match attempt(&set, request, &preflight, &plan, interrupted).await {
        Ok((manifest, set_pause, bytes_written)) => {
            set.done(operation, &format!("baseline {}", request.name))?;
            Ok(Created {
                manifest,
                set_pause,
                wall: set.drivers.clock.elapsed().saturating_sub(started),
                bytes_written,
            })
        }
        Err(error) => Err(take_back(&set, &plan, operation, error).await),
    }
}

/// Removes what there is of a baseline that could not be taken; returns what came of both.
async fn take_back(
    set: &Set<'_>,
    plan: &Plan,
    operation: OperationId,
    error: SnapshotError,
) -> SnapshotError {
    let full = free_disk(set.layout) < RESERVE;
    let abandoned = abandon(set, plan).await;
    let mut left = abandoned.left.clone();
    let what = format!("baseline {}", plan.name);
    if left.is_empty()
        && let Err(error) = set.end(operation)
    {
        left.push(format!("its entry in the journal: {error}"));
    }
    if !left.is_empty() {
        return SnapshotError::Dirty {
            what,
            why: error.to_string(),
            left,
        };
    }
    if matches!(error, SnapshotError::Interrupted { .. }) {
        return error;
    }
    let mut cures = if full {
        vec![MORE_SPACE.to_owned()]
    } else {
        error.cures()
    };
    let mut why = error.to_string();
    if let Some((gone, cure)) = abandoned.gone() {
        why = format!("{why}; {gone}");
        cures.push(cure);
    }
    SnapshotError::PutBack { what, why, cures }
}

/// Takes back what an attempt did.
pub(super) async fn abandon(set: &Set<'_>, plan: &Plan) -> LetGo {
    let state = state_name(plan.id);
    let hypervisor = &set.drivers.hypervisor;
    // One that is not there has given its space back.
    let _ = std::fs::remove_file(set.baselines().join(&plan.name).join(BALLAST));
    let discards = set.found.hosts.iter().map(|host| {
        let state = state.as_str();
        async move {
            let outcome = hypervisor.capture.discard(set.target(host), state).await;
            outcome
                .err()
                .map(|error| format!("the state in {}: {error}", host.name))
        }
    });
    let discarded = join_all(discards).await;
    let hosts: Vec<&FoundHost> = set
        .found
        .hosts
        .iter()
        .filter(|host| plan.running.contains(&host.name.to_string()))
        .collect();
    let mut abandoned = set.let_go(&hosts).await;
    abandoned.left.extend(discarded.into_iter().flatten());
    abandoned.left.extend(
        remove_directory(&set.baselines().join(&plan.name), set.watch)
            .err()
            .map(|error| error.to_string()),
    );
    abandoned
}

/// The file of a host's memory in a baseline.
fn ram_name(host: &str) -> PathBuf {
    PathBuf::from(format!("{host}.ram"))
}

async fn attempt(
    set: &Set<'_>,
    request: &Request,
    preflight: &Preflight,
    plan: &Plan,
    interrupted: &watch::Receiver<bool>,
) -> Result<(Manifest, Duration, u64), SnapshotError> {
    let step = |id: &str, what: &str| -> Result<(), SnapshotError> {
        set.watch.tell(Event::Started {
            id,
            host: None,
            what,
        });
        set.held()?;
        set.journal.point();
        Ok(())
    };
    let stop_here = || -> Result<(), SnapshotError> {
        if *interrupted.borrow() {
            return Err(SnapshotError::Interrupted {
                state: "the lab runs, and there is no baseline".into(),
            });
        }
        Ok(())
    };
    let directory = &preflight.directory;
    step("directory", "make the baseline's directory")?;
    // What a twin that was killed has left of the same name.
    remove_directory(directory, set.watch)?;
    crate::lab::Layout::make_shared(directory)?;
    manifest::write_id(directory, plan.id)?;
    let ballast = directory.join(BALLAST);
    blocking("keeping", ballast.clone(), {
        let ballast = ballast.clone();
        move || files::keep_space(&ballast, BALLAST_BYTES)
    })
    .await?;
    step("write-back", "write memory and disks back")?;
    set.timed("write back", "", set.write_back()).await?;
    stop_here()?;
    let before = grown(preflight);
    step("capture", "stand still, capture, go on")?;
    let pause = if request.without_barrier {
        one_by_one(set, preflight, plan).await?
    } else {
        together(set, preflight, plan).await?
    };
    step("hash", "hash what was captured")?;
    stop_here()?;
    let manifest = describe(set, request, preflight, plan, pause).await?;
    step("commit", "commit")?;
    // A guest whose disk is scratch does not flush it, and memory that was shared is on the disk already.
    flush(&files_of(&manifest, directory)).await?;
    std::fs::remove_file(&ballast).map_err(SnapshotError::io("giving space back"))?;
    manifest.commit(directory)?;
    let written = grown(preflight).saturating_sub(before)
        + manifest
            .hosts
            .iter()
            .filter(|_| manifest.rung == Rung::Copy)
            .filter_map(|host| allocated(&directory.join(&host.ram.as_ref()?.path)).ok())
            .sum::<u64>();
    Ok((manifest, pause, written))
}

/// Bytes that the disks take.
fn grown(preflight: &Preflight) -> u64 {
    preflight
        .parts
        .iter()
        .flat_map(|(_, part)| capturable(part))
        .filter_map(|disk| allocated(&disk).ok())
        .sum()
}

/// The disks of a host that hold its state.
pub(super) fn capturable(part: &Anatomy) -> Vec<PathBuf> {
    part.disks
        .iter()
        .filter(|disk| disk.holds_state())
        .filter_map(|disk| disk.path.clone())
        .collect()
}

/// Captures one host that stands still.
async fn one(
    set: &Set<'_>,
    preflight: &Preflight,
    plan: &Plan,
    host: &FoundHost,
) -> Result<(), SnapshotError> {
    let name = host.name.as_str();
    let Some(index) = preflight.parts.iter().position(|(part, _)| part == name) else {
        return Ok(());
    };
    let (part, memory) = (&preflight.parts[index].1, preflight.choice.memory[index]);
    let hypervisor = &set.drivers.hypervisor;
    let state = state_name(plan.id);
    let capture = hypervisor.capture.capture(set.target(host), &state, memory);
    set.timed("capture", name, capture).await?;
    if let (Memory::File, Some(live)) = (memory, part.ram_file.clone()) {
        let way = way(preflight.choice.rung);
        let golden = preflight.directory.join(ram_name(name));
        let source = live.clone();
        let memory = blocking("preserving", live.path(), move || {
            files::preserve(&source.open()?, &golden, way)
        });
        set.timed("memory", name, memory).await?;
        // Nothing of it is dirty now, also not what a guest that runs writes all the time.
        let file = live.path();
        let split = hypervisor.capture.split_folios(set.target(host), &file);
        set.timed("split", name, split).await?;
    }
    if let Some(nvram) = part.nvram.clone().filter(|file| file.exists()) {
        let golden = preflight.directory.join(format!("{name}.nvram"));
        blocking("preserving", nvram.clone(), move || {
            files::preserve(&Guarded::at(&nvram).open()?, &golden, Way::Copy)
        })
        .await?;
    }
    Ok(())
}

pub(super) const fn way(rung: Rung) -> Way {
    match rung {
        Rung::Reflink => Way::Reflink,
        Rung::Copy | Rung::Stream | Rung::Disks => Way::Copy,
    }
}

fn running<'f>(set: &'f Set<'_>, plan: &Plan) -> Vec<&'f FoundHost> {
    set.found
        .hosts
        .iter()
        .filter(|host| plan.running.contains(&host.name.to_string()))
        .collect()
}

async fn together(
    set: &Set<'_>,
    preflight: &Preflight,
    plan: &Plan,
) -> Result<Duration, SnapshotError> {
    let clock = &set.drivers.clock;
    let hosts = running(set, plan);
    let from = clock.elapsed();
    set.timed("stand still", "", set.power(&hosts, PowerAction::Suspend))
        .await?;
    let captures = set
        .found
        .hosts
        .iter()
        .map(|host| one(set, preflight, plan, host));
    let longest = longest_pause(set, preflight);
    let outcomes = tokio::select! {
        outcomes = join_all(captures) => outcomes,
        () = clock.sleep(longest) => return Err(SnapshotError::StandsTooLong { longest }),
    };
    outcomes.into_iter().collect::<Result<Vec<()>, _>>()?;
    set.journal.point();
    set.timed("go on", "", set.power(&hosts, PowerAction::Resume))
        .await?;
    Ok(clock.elapsed().saturating_sub(from))
}

/// How long the hosts may stand still: longer where their memory is copied meanwhile.
fn longest_pause(set: &Set<'_>, preflight: &Preflight) -> Duration {
    let copies = matches!(preflight.choice.rung, Rung::Copy | Rung::Stream);
    let hosts = set.found.hosts.iter().filter(|_| copies);
    let memory: u64 = hosts.map(|host| host.spec.memory.0).sum();
    PAUSE + Duration::from_secs(memory / SLOWEST_COPY)
}

async fn one_by_one(
    set: &Set<'_>,
    preflight: &Preflight,
    plan: &Plan,
) -> Result<Duration, SnapshotError> {
    let from = set.drivers.clock.elapsed();
    let running = running(set, plan);
    for host in &set.found.hosts {
        let own: Vec<&FoundHost> = running
            .iter()
            .filter(|other| other.name == host.name)
            .copied()
            .collect();
        set.power(&own, PowerAction::Suspend).await?;
        one(set, preflight, plan, host).await?;
        set.power(&own, PowerAction::Resume).await?;
    }
    Ok(set.drivers.clock.elapsed().saturating_sub(from))
}

/// Writes down what was captured, with all checksums.
async fn describe(
    set: &Set<'_>,
    request: &Request,
    preflight: &Preflight,
    plan: &Plan,
    pause: Duration,
) -> Result<Manifest, SnapshotError> {
    let records = set
        .found
        .hosts
        .iter()
        .map(|host| record(set, preflight, plan, host));
    let hosts: Result<Vec<HostRecord>, _> = join_all(records).await.into_iter().collect();
    let networks = set.found.networks.iter();
    Ok(Manifest {
        schema: "twin/baseline/v1".into(),
        id: plan.id,
        name: request.name.clone(),
        lab: set.lab(),
        lab_name: set.found.record.name.to_string(),
        note: request.note.clone(),
        run: request.run.clone(),
        created_at: set.drivers.clock.now().to_string(),
        rung: preflight.choice.rung,
        reasons: preflight.choice.reasons.clone(),
        hypervisor: preflight.machine.hypervisor.clone(),
        library: preflight.machine.library.clone(),
        cpu: super::restore::cpu(),
        set_pause_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
        networks: networks
            .map(|(_, spec)| serde_json::to_value(spec).unwrap_or_default())
            .collect(),
        hosts: hosts?,
    })
}

async fn record(
    set: &Set<'_>,
    preflight: &Preflight,
    plan: &Plan,
    host: &FoundHost,
) -> Result<HostRecord, SnapshotError> {
    let name = host.name.to_string();
    let index = preflight.parts.iter().position(|(part, _)| *part == name);
    let (part, memory) = index
        .map(|index| (&preflight.parts[index].1, preflight.choice.memory[index]))
        .ok_or_else(|| SnapshotError::Unknown {
            name: name.clone(),
            known: Vec::new(),
        })?;
    let own = |file: PathBuf| {
        let path = preflight.directory.join(&file);
        async move {
            blocking("hashing", path.clone(), move || {
                FileRecord::of(&path, &file)
            })
            .await
        }
    };
    let files = capturable(part);
    let states = set
        .drivers
        .hypervisor
        .inspection
        .examine(&files, &state_name(plan.id), true)
        .await?;
    let mut disks = Vec::new();
    for (state, file) in states.into_iter().zip(files) {
        let state = state.map_err(|why| {
            SnapshotError::io("reading what was captured")(std::io::Error::other(why))
        })?;
        disks.push(DiskRecord {
            state,
            chain: chain(file).await?,
        });
    }
    let ram = match memory {
        Memory::File => Some(own(ram_name(&name)).await?),
        Memory::Stream | Memory::None => None,
    };
    let nvram = match part.nvram.clone().filter(|file| file.exists()) {
        Some(place) => Some((own(PathBuf::from(format!("{name}.nvram"))).await?, place)),
        None => None,
    };
    let guest = preflight
        .guests
        .iter()
        .find(|(guest, _)| *guest == name)
        .and_then(|(_, state)| state.clone());
    Ok(HostRecord {
        name,
        domain: host.domain.name.clone(),
        uuid: host.domain.uuid,
        power: part.power,
        memory,
        machine: part.machine.clone(),
        emulator: part.emulator.clone(),
        definition: part.definition.clone(),
        devices: part.devices.clone(),
        disks,
        read_only: read_only(part).await?,
        ram,
        nvram,
        guest,
    })
}

/// The disks that a host only reads.
async fn read_only(part: &Anatomy) -> Result<Vec<FileRecord>, SnapshotError> {
    let disks = part.disks.iter().filter(|disk| disk.read_only);
    let mut files = Vec::new();
    for path in disks.filter_map(|disk| disk.path.clone()) {
        let hashing = blocking("hashing", path.clone(), move || {
            FileRecord::of(&path, &path)
        });
        files.push(hashing.await?);
    }
    Ok(files)
}

/// All files that a baseline has, its hosts' disks included.
fn files_of(manifest: &Manifest, directory: &Path) -> Vec<PathBuf> {
    let disks = manifest.hosts.iter().flat_map(|host| &host.disks);
    let own = manifest.hosts.iter().flat_map(|host| {
        let nvram = host.nvram.iter().map(|(file, _)| file);
        host.ram.iter().chain(nvram)
    });
    let own = own.map(|file| directory.join(&file.path));
    let disks = disks.map(|disk| disk.state.path.clone());
    disks.chain(own).collect()
}

/// The files below a disk.
async fn chain(file: PathBuf) -> Result<Vec<FileRecord>, SnapshotError> {
    blocking("reading the chain of", file.clone(), move || {
        let links = qcow2::chain(&file).map_err(std::io::Error::other)?;
        links
            .iter()
            .skip(1)
            .map(|link| FileRecord::of(&link.path, &link.path))
            .collect()
    })
    .await
}

/// The id of a half-made baseline. A directory without an id of twin's is not one, whatever is in it.
pub(super) fn half_made(directory: &Path) -> Option<Uuid> {
    let half = directory.is_dir() && !directory.join(manifest::FILE).exists();
    half.then(|| manifest::id_of(directory)).flatten()
}
