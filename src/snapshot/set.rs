//! The hosts that are captured and put back together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::SnapshotError;
use crate::guest::Guest;
use crate::hypervisor::{Anatomy, Power, PowerAction, Target};
use crate::journal::{Journal, JournalError, OperationId};
use crate::lab::{
    Drivers, Event, Found, FoundHost, LabError, Layout, Lock, Standing, Watch, mend,
    remove_baseline,
};

/// Memory that is written back in less time than this has so little left to write that the pause can begin.
const RESIDUE: Duration = Duration::from_millis(25);

/// Rounds of writing back; a guest that writes faster than the disk is paused all the same.
const ROUNDS: u32 = 8;

/// Another round is made when the last one took less than this part of the one before.
const WORTHWHILE: f32 = 0.7;

/// A lab with what it takes to act on it.
#[derive(Clone, Copy)]
pub struct Set<'s> {
    /// The lab.
    pub found: &'s Found,
    /// Drivers.
    pub drivers: &'s Drivers,
    /// Where things are.
    pub layout: &'s Layout,
    /// The journal.
    pub journal: &'s Journal,
    /// Takes the progress.
    pub watch: &'s dyn Watch,
    /// The lab's lock; a verb that changes baselines holds it.
    pub lock: Option<&'s Lock>,
}

/// What the journal keeps of an operation, for the process that has to finish it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The baseline.
    pub(super) name: String,
    /// Its identity.
    pub(super) id: Uuid,
    /// Hosts that ran when the operation began.
    pub(super) running: Vec<String>,
}

/// The watchdog; released when dropped, so that only a death leaves the work to it.
pub(super) struct OnDuty(Option<Box<dyn Standing>>);

impl Drop for OnDuty {
    fn drop(&mut self) {
        if let Some(standing) = self.0.take() {
            standing.release();
        }
    }
}

/// What came of letting hosts go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LetGo {
    /// Hosts that could not be, with why.
    pub(super) left: Vec<String>,
    /// Hosts that ran and whose process has ended meanwhile.
    pub(super) gone: Vec<String>,
}

impl LetGo {
    /// What to say of hosts that are gone, and what to do about it; nothing where none is.
    pub(super) fn gone(&self) -> Option<(String, String)> {
        (!self.gone.is_empty()).then(|| {
            (
                format!("the process of {} has ended meanwhile", self.gone.join(", ")),
                "`twin power on HOST` boots what has ended, `twin restore NAME` puts the whole lab back to a baseline; the logs of libvirt and the kernel say why it ended".to_owned(),
            )
        })
    }
}

impl Set<'_> {
    /// The lab.
    pub(super) fn lab(&self) -> Uuid {
        self.found.record.uuid
    }

    /// Where baselines are.
    pub(super) fn baselines(&self) -> PathBuf {
        self.layout.baselines(self.lab())
    }

    pub(super) fn target(&self, host: &FoundHost) -> Target {
        host.target(self.lab())
    }

    /// That the lab is still this process's alone.
    pub(super) fn held(&self) -> Result<(), SnapshotError> {
        let held = self.lock.map_or(Ok(()), Lock::check);
        Ok(held.map_err(LabError::from)?)
    }

    /// Ends an operation in the journal, which is asked twice: what the operation did stays, whatever the journal says.
    pub(super) fn end(&self, operation: OperationId) -> Result<(), JournalError> {
        let end = || self.journal.end(operation);
        end().or_else(|_| end())
    }

    /// Ends an operation that did its work, of which `what` is said. One whose entry stays open is DIRTY: runs are refused, and
    /// watchdogs leave the lab alone, until `twin recover` has closed it.
    pub(super) fn done(&self, operation: OperationId, what: &str) -> Result<(), SnapshotError> {
        self.end(operation).map_err(|error| SnapshotError::Dirty {
            what: what.to_owned(),
            why: error.to_string(),
            left: vec!["all of it is done, and its entry in the journal is open".into()],
        })
    }

    /// The way into a host's guest.
    pub(super) fn guest(&self, host: &FoundHost) -> Option<Arc<dyn Guest>> {
        let way = host.way(self.layout, &self.found.networks)?;
        Some(self.drivers.guests.open(&way))
    }

    /// Does something, and leaves in the log how long it took.
    pub(super) async fn timed<T>(&self, what: &str, host: &str, act: impl Future<Output = T>) -> T {
        let from = self.drivers.clock.elapsed();
        let outcome = act.await;
        let took_us = self
            .drivers
            .clock
            .elapsed()
            .saturating_sub(from)
            .as_micros();
        tracing::debug!(what, host, took_us, "phase");
        outcome
    }

    /// Starts a watchdog that finishes what is begun here, should this process die; a failure to start one stops nothing.
    pub(super) fn stand_by(&self) -> OnDuty {
        let name = self.found.record.name.as_str();
        OnDuty(
            match self.drivers.guardian.stand_by(name, self.layout.state()) {
                Ok(standing) => Some(standing),
                Err(error) => {
                    let note = format!("no watchdog runs, should this twin die: {error}");
                    self.watch.tell(Event::Note(&note));
                    None
                }
            },
        )
    }

    /// Mends the disks of hosts that were not switched off before this machine ended; what was done, a host each, or what keeps
    /// it from being done.
    pub(super) async fn mends(&self) -> Vec<Result<Vec<String>, LabError>> {
        let hosts = self.found.hosts.iter();
        let off = hosts.filter(|host| host.domain.power == Power::ShutOff);
        join_all(off.map(|host| mend(&host.spec))).await
    }

    /// The same for a verb that writes to the disks: where one cannot be mended, that is an error.
    pub(super) async fn mend(&self) -> Result<(), SnapshotError> {
        for done in self.mends().await {
            for done in done? {
                self.watch.tell(Event::Note(&done));
            }
        }
        Ok(())
    }

    /// Reads what all hosts consist of.
    pub(super) async fn anatomies(&self) -> Result<Vec<(String, Anatomy)>, SnapshotError> {
        let read = self.found.hosts.iter().map(|host| async move {
            let anatomy = self
                .drivers
                .hypervisor
                .inspection
                .anatomy(self.target(host))
                .await?;
            Ok((host.name.to_string(), anatomy))
        });
        join_all(read).await.into_iter().collect()
    }

    /// Writes memory of hosts back again and again until little is left.
    pub(super) async fn write_back(&self) -> Result<(), SnapshotError> {
        let mut before = Duration::MAX;
        for _ in 0..ROUNDS {
            let from = self.drivers.clock.elapsed();
            let hypervisor = &self.drivers.hypervisor;
            let writes = self.found.hosts.iter().map(|host| {
                self.timed(
                    "write back",
                    host.name.as_str(),
                    hypervisor.capture.write_back(self.target(host)),
                )
            });
            let outcomes: Result<Vec<()>, _> = join_all(writes).await.into_iter().collect();
            outcomes?;
            let took = self.drivers.clock.elapsed().saturating_sub(from);
            if took < RESIDUE || took > before.mul_f32(WORTHWHILE) {
                break;
            }
            before = took;
        }
        Ok(())
    }

    /// Changes the power of hosts side by side; all of them are tried.
    pub(super) async fn power(
        &self,
        hosts: &[&FoundHost],
        action: PowerAction,
    ) -> Result<(), SnapshotError> {
        let acts = hosts.iter().map(|host| {
            self.drivers
                .hypervisor
                .domain
                .power(self.target(host), action)
        });
        let outcomes: Result<Vec<()>, _> = join_all(acts).await.into_iter().collect();
        Ok(outcomes.map(drop)?)
    }

    /// Lets hosts go on that stand still.
    pub(super) async fn let_go(&self, hosts: &[&FoundHost]) -> LetGo {
        let acts = hosts.iter().map(|host| async move {
            let hypervisor = &self.drivers.hypervisor;
            let state = hypervisor.domain.power_state(self.target(host)).await;
            let outcome = match state {
                Ok(Power::Paused) => {
                    hypervisor
                        .domain
                        .power(self.target(host), PowerAction::Resume)
                        .await
                }
                Ok(Power::Running) => Ok(()),
                Ok(Power::ShutOff | Power::Crashed) => return Err(host.name.to_string()),
                Err(error) => Err(error),
            };
            Ok(outcome
                .err()
                .map(|error| format!("{} still stands: {error}", host.name)))
        });
        let mut all = LetGo::default();
        for outcome in join_all(acts).await {
            match outcome {
                Ok(left) => all.left.extend(left),
                Err(gone) => all.gone.push(gone),
            }
        }
        all
    }
}

/// Does something with a file on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    what: &str,
    file: PathBuf,
    act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, SnapshotError> {
    let named = format!("{what} {}", file.display());
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome.map_err(SnapshotError::io(named)),
        Err(error) => Err(SnapshotError::io(named)(std::io::Error::other(error))),
    }
}

/// Sees to it that files are on the disk.
pub(super) async fn flush(files: &[PathBuf]) -> Result<(), SnapshotError> {
    let flushes = files.iter().map(|file| {
        let file = file.clone();
        blocking("flushing", file.clone(), move || {
            super::files::write_back(&file)
        })
    });
    join_all(flushes).await.into_iter().collect()
}

/// Removes a baseline's directory, or what there is of one. What twin did not make stays, and is named.
pub(super) fn remove_directory(directory: &Path, watch: &dyn Watch) -> Result<(), SnapshotError> {
    let left = remove_baseline(directory)
        .map_err(LabError::io(format!("removing {}", directory.display())))?;
    for left in left {
        watch.tell(Event::Note(&format!("left {left}")));
    }
    Ok(())
}
