//! Going back to a baseline.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::create::way;
use super::files;
use super::manifest::{HostRecord, Manifest};
use super::recover::RESTORE;
use super::set::{Plan, Set, blocking, flush};
use super::{SnapshotError, verify};
use crate::guest::{Guest, GuestError};
use crate::hostnet::HostNetError;
use crate::hypervisor::{Anatomy, Memory, Power, PowerAction};
use crate::journal::{JournalError, OperationId, UnfinishedOperation};
use crate::lab::{
    Event, FoundHost, LabError, check_bases, network_up, started_now, stopped, switched_off,
};
use crate::model::spec::NetworkSpec;
use crate::plan::hold_table;
use crate::storage::Guarded;

/// How long a guest may take to answer after it was put back.
const ANSWER: Duration = Duration::from_secs(120);

/// What happens to the guests' clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clocks {
    /// They go on as they are.
    #[default]
    Keep,
    /// They are set to this machine's.
    Host,
}

/// How a baseline is put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What happens to the guests' clocks.
    pub clocks: Clocks,
    /// Whether it is tried where another QEMU or CPU would load the saved state.
    pub force: bool,
}

/// What was put back.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The baseline.
    pub manifest: Manifest,
    /// Until all hosts that ran ran again.
    pub running: Duration,
    /// Until all answered.
    pub ready: Duration,
    /// How far the guests' clocks are behind this machine's at most; negative where they are ahead.
    pub clock_lag_ms: Option<i64>,
    /// The hosts.
    pub hosts: Vec<RestoredHost>,
}

/// A host that was put back.
#[derive(Clone, Debug)]
pub struct RestoredHost {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub power: Power,
    /// Why its process had to be started anew, where it had to.
    pub restarted: Option<String>,
    /// How far its clock is behind this machine's.
    pub clock_lag_ms: Option<i64>,
}

/// What has to be done with one host.
struct Task<'f> {
    host: &'f FoundHost,
    record: HostRecord,
    now: Anatomy,
    restart: Option<String>,
}

impl Task<'_> {
    fn wants_process(&self) -> bool {
        self.record.memory != Memory::None
    }
}

/// This machine's CPU, as far as saved state depends on it.
pub(super) fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        info.lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    format!("{} {}", field("vendor_id"), field("model name"))
}

/// Puts the lab back to a baseline. All is checked before anything is stopped; from then on it is carried to its end, or
/// left for `twin recover` to finish.
pub async fn restore(
    set: Set<'_>,
    name: &str,
    Options { clocks, force }: Options,
    interrupted: &watch::Receiver<bool>,
) -> Result<Restored, SnapshotError> {
    let started = set.drivers.clock.elapsed();
    let manifest = super::show(&set, name)?;
    set.mend().await?;
    let tasks = set.timed("check", "", plan(&set, &manifest, force)).await?;
    if *interrupted.borrow() {
        return Err(SnapshotError::Interrupted {
            state: "nothing was stopped".into(),
        });
    }
    set.held()?;
    networks_up(&set).await?;
    let text = serde_json::to_string(&plan_of(&manifest)).unwrap_or_default();
    let _on_duty = set.stand_by();
    let broken_off = set.journal.unfinished(set.lab())?;
    let operation = set.journal.begin(set.lab(), RESTORE, &text)?;
    let outcome = carry_out(&set, &manifest, &tasks).await;
    if let Err(error) = outcome {
        return Err(SnapshotError::Dirty {
            what: format!("restoring {name}"),
            why: error.to_string(),
            left: vec!["the lab is between two states; `twin recover` finishes the restore".into()],
        });
    }
    let running = set.drivers.clock.elapsed().saturating_sub(started);
    let answered = answers(&set, &tasks).await;
    let ready = set.drivers.clock.elapsed().saturating_sub(started);
    let hosts = match answered {
        Ok(()) => see_to_clocks(&set, &tasks, clocks).await,
        Err(error) => Err(error),
    };
    let flushed = flush(&disks_of(&manifest)).await;
    let close = || close(&set, &manifest, operation, &broken_off);
    let closed = flushed.and_then(|()| Ok(close().or_else(|_| close())?));
    let hosts = match (closed, hosts) {
        (Ok(()), hosts) => hosts?,
        (Err(error), hosts) => {
            let also = hosts.err().map(|error| format!("; {error}"));
            return Err(SnapshotError::Dirty {
                what: format!("restoring {name}"),
                why: format!("{error}{}", also.unwrap_or_default()),
                left: vec![format!(
                    "the lab is at {name}, and the journal does not have it: run `twin recover` now, which restores {name} \
                     once more; what is done until then is lost"
                )],
            });
        }
    };
    Ok(Restored {
        manifest,
        running,
        ready,
        clock_lag_ms: hosts
            .iter()
            .filter_map(|host| host.clock_lag_ms)
            .max_by_key(|lag| lag.abs()),
        hosts,
    })
}

/// What it takes to finish a restore.
fn plan_of(manifest: &Manifest) -> Plan {
    let hosts = manifest.hosts.iter();
    let running = hosts.filter(|host| host.power == Power::Running);
    Plan {
        name: manifest.name.clone(),
        id: manifest.id,
        running: running.map(|host| host.name.clone()).collect(),
    }
}

/// The disks of all hosts.
fn disks_of(manifest: &Manifest) -> Vec<PathBuf> {
    let disks = manifest.hosts.iter().flat_map(|host| &host.disks);
    disks.map(|disk| disk.state.path.clone()).collect()
}

/// Brings up the lab's networks: after a boot of this machine they are down.
async fn networks_up(set: &Set<'_>) -> Result<(), SnapshotError> {
    let down = set.found.networks.iter();
    for (_, spec) in down.filter(|(network, _)| !network.active) {
        set.watch.tell(Event::Started {
            id: "network",
            host: None,
            what: &format!("bring network {} up", spec.name),
        });
        network_up(set.found, spec, set.drivers).await?;
    }
    Ok(())
}

/// Checks everything and decides what has to be done.
async fn plan<'f>(
    set: &Set<'f>,
    manifest: &Manifest,
    force: bool,
) -> Result<Vec<Task<'f>>, SnapshotError> {
    // All of these only read.
    let (findings, parts) = futures::join!(verify::check(set, manifest), set.anatomies());
    let findings = findings?;
    if !findings.is_empty() {
        return Err(SnapshotError::Damaged {
            name: manifest.name.clone(),
            findings,
        });
    }
    let parts = parts?;
    let mut refusals = networks(set, manifest);
    // What QEMU itself would try, and the operator may.
    let mut doubts = verify::differs(manifest);
    let mut tasks = Vec::new();
    for record in &manifest.hosts {
        let host = set.found.host(&record.name).ok();
        let now = parts.iter().find(|(name, _)| *name == record.name);
        let (Some(host), Some((_, now))) = (host, now) else {
            refusals.push(format!("{}: its domain is gone", record.name));
            continue;
        };
        if let Some(moved) = moved_disk(record, now) {
            refusals.push(moved);
        }
        if let Err(error) = check_bases(set.layout, &host.spec).await {
            refusals.push(format!("{}: {error}", record.name));
        }
        doubts.extend(verify::other_emulator(set, manifest, record, now).await);
        if host.domain.uuid != record.uuid {
            refusals.push(format!("{}: its domain is another one", record.name));
        }
        tasks.push(Task {
            host,
            record: record.clone(),
            now: now.clone(),
            restart: restart(record, now),
        });
    }
    for host in &set.found.hosts {
        if manifest.host(host.name.as_str()).is_none() {
            refusals.push(format!("{}: the baseline has no such host", host.name));
        }
    }
    if force {
        for doubt in doubts.drain(..) {
            set.watch.tell(Event::Note(&format!("forced: {doubt}")));
        }
    }
    if refusals.is_empty() && doubts.is_empty() {
        return Ok(tasks);
    }
    Err(refused(manifest, refusals, doubts))
}

/// What refuses a restore, and what is to be done about it.
fn refused(manifest: &Manifest, mut refusals: Vec<String>, doubts: Vec<String>) -> SnapshotError {
    let mut cures = Vec::new();
    if !refusals.is_empty() {
        cures.push("`twin up TOPOLOGY` brings back what is missing".to_owned());
    }
    if !doubts.is_empty() {
        cures.push(format!(
            "install that QEMU again, or take the baseline anew; `twin restore {} --force` tries it, and where it fails the hosts have to boot",
            manifest.name
        ));
    }
    refusals.extend(doubts);
    SnapshotError::Refused {
        findings: refusals,
        cures,
    }
}

/// A disk that the domain writes to and the baseline does not know: restoring would take it out of the definition, and what
/// is on it would be lost.
fn moved_disk(record: &HostRecord, now: &Anatomy) -> Option<String> {
    let known = |path: &PathBuf| record.disks.iter().any(|disk| disk.state.path == *path);
    let mut written = now.disks.iter().filter(|disk| !disk.read_only);
    let path = written.find_map(|disk| disk.path.as_ref().filter(|path| !known(path)))?;
    Some(format!(
        "{}: its disk is {} now, which the baseline does not have: another tool has made a snapshot of it, or moved it; `virsh blockcommit` merges a snapshot",
        record.name,
        path.display()
    ))
}

/// Networks of the baseline that are not there as they were: the hosts would come back without them.
fn networks(set: &Set<'_>, manifest: &Manifest) -> Vec<String> {
    let recorded = manifest
        .networks
        .iter()
        .filter_map(|spec| serde_json::from_value::<NetworkSpec>(spec.clone()).ok());
    let differs = |recorded: NetworkSpec| {
        let name = &recorded.name;
        let found = set
            .found
            .networks
            .iter()
            .find(|(_, spec)| spec.uuid == recorded.uuid);
        match found {
            None => Some(format!("network {name} is gone")),
            Some((_, spec)) => {
                let same = recorded.serves_as(spec);
                (!same).then(|| format!("network {name} is another one now"))
            }
        }
    };
    recorded.filter_map(differs).collect()
}

/// Why a host's process has to be started anew, where it has to.
pub(super) fn restart(record: &HostRecord, now: &Anatomy) -> Option<String> {
    if record.memory == Memory::None {
        return None;
    }
    if !now.process {
        return Some("it had no process".into());
    }
    // libvirt takes a process whose guest has panicked for crashed until its CPUs run again.
    if (now.power, record.power) == (Power::Crashed, Power::Paused) {
        return Some("it has crashed, and stood still then".into());
    }
    if now.definition != record.definition {
        return Some("its definition has changed".into());
    }
    if now.devices != record.devices {
        return Some("its devices have changed".into());
    }
    if now.machine != record.machine {
        return Some("its machine type has changed".into());
    }
    if record.memory == Memory::File && now.ram_file.is_none() {
        return Some("its memory is not in a file".into());
    }
    None
}

/// Writes down that a restore is done, and what has come to nothing by it. Doing it again changes nothing.
fn close(
    set: &Set<'_>,
    manifest: &Manifest,
    operation: OperationId,
    broken_off: &[UnfinishedOperation],
) -> Result<(), JournalError> {
    let name = &manifest.name;
    // What runs did inside the guests since then is undone with the guests.
    let note = format!("superseded by restoring {name}");
    let since = &manifest.created_at;
    // A run's own baseline is older than all that the run did.
    let own = |run: &&str| *name == super::before_run(run);
    let run = manifest.run.as_deref().filter(own);
    set.journal.supersede_acts(set.lab(), since, run, &note)?;
    // Restores that were broken off have no more to do: the lab is at this baseline.
    for earlier in broken_off.iter().filter(|earlier| earlier.verb == RESTORE) {
        set.journal.end(earlier.id)?;
    }
    set.journal.end(operation)
}

async fn carry_out(
    set: &Set<'_>,
    manifest: &Manifest,
    tasks: &[Task<'_>],
) -> Result<(), SnapshotError> {
    let step = |id: &str, what: &str| -> Result<(), SnapshotError> {
        set.watch.tell(Event::Started {
            id,
            host: None,
            what,
        });
        set.journal.point();
        Ok(())
    };
    step("stop", "stand still")?;
    let still: Vec<&FoundHost> = tasks
        .iter()
        .filter(|task| task.now.power == Power::Running)
        .map(|task| task.host)
        .collect();
    // Nothing that a guest sends from now on may reach another one after that was put back.
    let ports: Vec<String> = tasks
        .iter()
        .flat_map(|task| task.now.taps.iter().map(|(_, tap)| tap.clone()))
        .collect();
    let table = hold_table(set.lab());
    let hostnet = &set.drivers.hostnet;
    let hold = hostnet.firewall.hold(&table, &ports);
    set.timed("hold back", "", hold).await.map_err(network)?;
    set.timed("stand still", "", set.power(&still, PowerAction::Suspend))
        .await?;
    let put = tasks.iter().map(|task| put_back(set, manifest, task));
    let outcomes: Result<Vec<()>, _> = join_all(put).await.into_iter().collect();
    outcomes?;
    set.journal.point();
    let hosts = |power: Power| -> Vec<&FoundHost> {
        tasks
            .iter()
            .filter(|task| task.record.power == power && task.wants_process())
            .map(|task| task.host)
            .collect()
    };
    let running = hosts(Power::Running);
    let (through, resumed) = futures::join!(
        set.timed(
            "let through",
            "",
            hostnet.firewall.remove_table("bridge", &table)
        ),
        set.timed("go on", "", set.power(&running, PowerAction::Resume)),
    );
    through.map_err(network)?;
    resumed?;
    for host in hosts(Power::Crashed) {
        set.drivers
            .hypervisor
            .capture
            .mark_crashed(set.target(host))
            .await?;
    }
    Ok(())
}

fn network(error: HostNetError) -> SnapshotError {
    LabError::from(error).into()
}

async fn put_back(
    set: &Set<'_>,
    manifest: &Manifest,
    task: &Task<'_>,
) -> Result<(), SnapshotError> {
    let hypervisor = &set.drivers.hypervisor;
    let target = set.target(task.host);
    let directory = set.baselines().join(&manifest.name);
    if task.now.process && (task.restart.is_some() || !task.wants_process()) {
        hypervisor
            .domain
            .power(target, PowerAction::Destroy)
            .await?;
        if !task.wants_process() {
            switched_off(&task.host.spec).await?;
        }
    }
    if task.now.definition != task.record.definition {
        hypervisor
            .capture
            .redefine(target, &task.record.definition)
            .await?;
    }
    let mut live = task.now.ram_file.clone();
    // A process that lives on has the variables' content in its device state, and writes it back itself.
    let lives_on = task.wants_process() && task.restart.is_none();
    if let Some((golden, place)) = task.record.nvram.as_ref().filter(|_| !lives_on) {
        let (golden, place) = (directory.join(&golden.path), place.clone());
        blocking("putting back", place.clone(), move || {
            write_variables(&place, &std::fs::read(golden)?)
        })
        .await?;
    }
    if task.wants_process() && task.restart.is_some() {
        started_now(&task.host.spec)?;
        hypervisor.capture.start_paused(target).await?;
        live = hypervisor.inspection.anatomy(target).await?.ram_file;
    }
    if let Some(golden) = &task.record.ram {
        let golden: PathBuf = directory.join(&golden.path);
        let live = live.ok_or_else(|| SnapshotError::Refused {
            findings: vec![format!("{}: its memory is not in a file", task.record.name)],
            cures: Vec::new(),
        })?;
        let way = way(manifest.rung);
        let memory = blocking("putting back", live.path(), move || {
            files::put_back(&golden, &live.open_writable()?, way, files::FEW)
        });
        set.timed("memory", &task.record.name, memory).await?;
    }
    let state = manifest.state();
    let load = hypervisor.capture.load(target, &state, task.record.memory);
    Ok(set.timed("load", &task.record.name, load).await?)
}

/// Writes the firmware's variables into their file, which keeps its owner: the process has to write to it. The directory is
/// QEMU's user's.
fn write_variables(place: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = match Guarded::at(place).open_writable() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(place)?,
        opened => opened?,
    };
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The way into a host's guest, where that ran and can answer.
fn guest_that_ran(set: &Set<'_>, task: &Task<'_>) -> Option<Arc<dyn Guest>> {
    let ran = task.record.power == Power::Running;
    set.guest(task.host).filter(|_| ran)
}

/// Waits until all guests answer that ran.
async fn answers(set: &Set<'_>, tasks: &[Task<'_>]) -> Result<(), SnapshotError> {
    let asks = tasks.iter().map(|task| async move {
        let Some(guest) = guest_that_ran(set, task) else {
            return Ok(());
        };
        tokio::select! {
            greeted = guest.greet(ANSWER) => greeted.map(drop),
            power = stopped(set.drivers, set.target(task.host)) => {
                let why = format!("{} has died meanwhile: it is {power:?}", task.host.name);
                Err(GuestError::Unreachable { why })
            }
        }
    });
    let bridges = bridges(set);
    let forget = set.drivers.hostnet.links.forget_peers(&bridges);
    let (answers, forgotten) = futures::join!(join_all(asks), forget);
    if let Err(error) = forgotten {
        set.watch.tell(Event::Note(&format!(
            "what this machine knows of the guests' addresses was not flushed: {error}"
        )));
    }
    Ok(answers.into_iter().collect::<Result<_, GuestError>>()?)
}

/// Sets the guests' clocks where that is asked for, and reads how they stand.
async fn see_to_clocks(
    set: &Set<'_>,
    tasks: &[Task<'_>],
    clocks: Clocks,
) -> Result<Vec<RestoredHost>, SnapshotError> {
    let asks = tasks.iter().map(|task| async move {
        let mut restored = RestoredHost {
            name: task.record.name.clone(),
            power: task.record.power,
            restarted: task.restart.clone().filter(|_| task.wants_process()),
            clock_lag_ms: None,
        };
        let Some(guest) = guest_that_ran(set, task) else {
            return Ok(restored);
        };
        if clocks == Clocks::Host {
            guest.set_clock(set.drivers.clock.as_ref()).await?;
        }
        // A guest that cannot tell its time still answers.
        let reading = guest.clock(set.drivers.clock.as_ref()).await.ok();
        restored.clock_lag_ms = reading.map(super::super::guest::ClockReading::behind_ms);
        Ok(restored)
    });
    let hosts = join_all(asks).await;
    Ok(hosts.into_iter().collect::<Result<_, GuestError>>()?)
}

/// The lab's bridges with their subnets.
fn bridges(set: &Set<'_>) -> Vec<(String, crate::units::Cidr)> {
    set.found
        .networks
        .iter()
        .map(|(_, spec)| (spec.bridge.clone(), spec.cidr))
        .collect()
}
