//! The watchdog: twin itself, as a process of its own that waits for the end of its standard input.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, setpriority_pgrp, setpriority_process};

use crate::lab::{Guardian, NoWatchdog, Standing};

/// The hidden flag of `twin recover`.
pub(crate) const FLAG: &str = "--stand-by";

/// What releases it; the end of input without this means that the other process died.
const RELEASED: u8 = b'r';

/// How nice it is to others while it waits, and once it has work.
const WAITING: i32 = 10;
const AT_WORK: i32 = 0;

/// In debug builds no watchdog is started where this is set.
const ALONE: &str = "TWIN_ALONE";

/// Starts twin as the guardian.
struct Twin {
    connect: String,
}

struct Waiting(Child);

impl Standing for Waiting {
    fn release(mut self: Box<Self>) {
        if let Some(mut input) = self.0.stdin.take() {
            // One that is gone needs no word.
            let _ = input.write_all(&[RELEASED]);
        }
        std::thread::spawn(move || self.0.wait());
    }
}

/// Where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";

/// A command that runs `program`. Where systemd runs it gets a scope of its own: the end of a unit, a session or a container
/// kills all that is in its cgroup, and this has to outlive that.
fn outside_of_this_cgroup(program: &str) -> Command {
    let scope = ["--scope", "--quiet", "--collect"];
    let works = Path::new(SYSTEMD).exists()
        && Command::new("systemd-run")
            .args(scope)
            .args(["--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if !works {
        return Command::new(program);
    }
    let mut command = Command::new("systemd-run");
    // It becomes the program itself, with its process id and its input.
    command.args(scope).args(["--", program]);
    command
}

impl Guardian for Twin {
    fn stand_by(&self, lab: &str, state: &Path) -> std::io::Result<Box<dyn Standing>> {
        use std::os::unix::process::CommandExt;
        // The file may have been replaced since this process started.
        let own = format!("/proc/{}/exe", std::process::id());
        let child = outside_of_this_cgroup(&own)
            .args(["--connect", &self.connect, "--lab", lab, "--state-dir"])
            .arg(state)
            .args(["recover", FLAG])
            // What makes the other one die in tests is not for it.
            .env_remove("TWIN_DIE_AT")
            .env_remove("TWIN_STOP_AT")
            // Ctrl-C at the terminal is not for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Its start is not to hold up what it stands by for; going on without is no reason to stop.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| setpriority_process(Some(pid), WAITING));
        Ok(Box::new(Waiting(child)))
    }
}

/// Returns the guardian of this process.
pub(crate) fn guardian(connect: &str) -> std::sync::Arc<dyn Guardian> {
    if cfg!(debug_assertions) && std::env::var_os(ALONE).is_some() {
        return std::sync::Arc::new(NoWatchdog);
    }
    std::sync::Arc::new(Twin {
        connect: connect.to_owned(),
    })
}

/// Is no nicer than others from now on, with all of its threads. Where that is refused it works all the same, only later.
pub(crate) fn to_work() {
    let _ = setpriority_pgrp(None, AT_WORK);
}

/// Waits for the other process; tells whether it died. Blocks.
pub(crate) fn other_died() -> bool {
    let mut said = Vec::new();
    let read = std::io::stdin().read_to_end(&mut said);
    let died = read.is_ok() && !said.contains(&RELEASED);
    if died {
        to_work();
    }
    died
}
