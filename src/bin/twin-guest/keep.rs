//! Keeping a holder process: starting it, following what it says, noticing its end.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A killed process is gone within this: the kernel only has to free its memory.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A process has its name, its score and its ports within this, also on a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// What a holder process is started with.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// The process name.
    pub(crate) comm: String,
    /// Memory in MiB.
    pub(crate) mib: u64,
    /// Whether the memory is written to at once.
    pub(crate) touch_now: bool,
    /// Its `oom_score_adj`.
    pub(crate) oom_score_adj: i16,
    /// The TCP ports it serves.
    pub(crate) ports: Vec<u16>,
    /// What it polls, and how often.
    pub(crate) polls: Option<(SocketAddrV4, Duration)>,
}

/// What a holder has said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    pub(crate) listening: bool,
    pub(crate) touched: bool,
    gone: bool,
}

#[derive(Debug, Default)]
struct Progress {
    said: Mutex<Said>,
    changed: Condvar,
}

/// A holder process that runs, or ran.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    stdin: Option<ChildStdin>,
    progress: Arc<Progress>,
}

impl Holder {
    /// Starts the process; `ended` is called once when it is gone.
    pub(crate) fn start(
        holding: &Holding,
        ended: impl FnOnce(u32) + Send + 'static,
    ) -> Result<Self, String> {
        let executable =
            std::env::current_exe().map_err(|error| format!("cannot find twin-guest: {error}"))?;
        let mut child = Command::new(executable)
            .arg0(&holding.comm)
            .args([
                "hold",
                &holding.comm,
                &holding.mib.to_string(),
                if holding.touch_now { "now" } else { "later" },
            ])
            .arg(holding.oom_score_adj.to_string())
            .args(
                holding
                    .polls
                    .map(|(address, every)| format!("{address}/{}", every.as_secs())),
            )
            .args(holding.ports.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", holding.comm))?;
        let progress = Arc::new(Progress::default());
        let holder = Self {
            pid: child.id(),
            stdin: child.stdin.take(),
            progress: Arc::clone(&progress),
        };
        std::thread::spawn(move || {
            follow(&mut child, &progress);
            // The process has closed its output; waiting for it is short and leaves no zombie.
            let _ = child.wait();
            locked(&progress.said).gone = true;
            progress.changed.notify_all();
            ended(child.id());
        });
        Ok(holder)
    }

    /// Waits until the process is what it stands for: before that it has another name, and twin-guest's own score.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let said = locked(&self.progress.said);
        let waiting = |said: &mut Said| !said.listening && !said.gone;
        let waited = self
            .progress
            .changed
            .wait_timeout_while(said, READY_DEADLINE, waiting);
        let (said, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (said.listening, said.gone) {
            (_, true) => Err("its process ended at once".into()),
            (false, false) => Err(format!(
                "its process is not ready within {READY_DEADLINE:?}"
            )),
            (true, false) => Ok(()),
        }
    }

    /// Asks the process to write to all of its memory.
    pub(crate) fn touch(&mut self) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("its process has no input")?;
        stdin
            .write_all(b"touch\n")
            .map_err(|error| format!("its process does not listen: {error}"))
    }

    /// Kills the process and waits until it is gone, its ports free; its end is reported through `ended`.
    pub(crate) fn kill(&self) {
        let Ok(pid) = i32::try_from(self.pid) else {
            return;
        };
        let said = locked(&self.progress.said);
        if said.gone {
            return;
        }
        // Already gone is as good.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let waited = self
            .progress
            .changed
            .wait_timeout_while(said, KILL_DEADLINE, |said| !said.gone);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Said {
        *locked(&self.progress.said)
    }
}

fn follow(child: &mut Child, progress: &Progress) {
    let Some(stdout) = child.stdout.take() else {
        return;
    };
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let mut said = locked(&progress.said);
        match line.as_str() {
            "listening" => said.listening = true,
            "touched" => said.touched = true,
            _ => {}
        }
        progress.changed.notify_all();
    }
}

/// Locks, also after a thread panicked with the lock held: the state behind it is plain data.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
