//! Process 1 of the micro image: mounts, kernel modules, the agent, and reaping what is left over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, wait};

use crate::kmsg::say;

/// Kernel modules that are loaded at boot, a path a line, in order; the image recipe writes it.
const MODULES: &str = "/etc/twin/modules";

/// An agent that dies is started again after this.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Runs for as long as the guest does.
pub(crate) fn run() -> Result<(), String> {
    mount_all();
    load_modules();
    loop {
        let agent = Command::new("/usr/bin/twin-guest")
            .arg("agent")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .spawn()
            .map_err(|error| format!("cannot start the agent: {error}"))?;
        reap_until(agent.id());
        say("the agent ended; starting it again");
        std::thread::sleep(RESTART_PAUSE);
    }
}

fn mount_all() {
    let none: Option<&str> = None;
    for (kind, target, flags) in [
        (
            "proc",
            "/proc",
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        ),
        (
            "sysfs",
            "/sys",
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        ),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID),
        (
            "devpts",
            "/dev/pts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        ),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV),
        ("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV),
    ] {
        // An existing directory is as good; a mount that fails shows in what needs it.
        let _ = fs::create_dir_all(target);
        if let Err(error) = mount(Some(kind), target, Some(kind), flags, none)
            && error != Errno::EBUSY
        {
            say(&format!("cannot mount {target}: {error}"));
        }
    }
    let _ = fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777));
}

fn load_modules() {
    for path in fs::read_to_string(MODULES).unwrap_or_default().lines() {
        if let Err(error) = load(path) {
            say(&format!("cannot load {path}: {error}"));
        }
    }
}

/// Loads one module; one that is loaded already is as good.
fn load(path: &str) -> Result<(), Errno> {
    let file = open(
        path,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    match finit_module(file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reaps orphans until the process `agent` ends.
fn reap_until(agent: u32) {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))
                if pid.as_raw().unsigned_abs() == agent =>
            {
                return;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
