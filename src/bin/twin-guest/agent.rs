//! The agent: sets the guest up, then answers twin on the channel.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use twin::wire::{GuestState, HostConfig, PROTOCOL, Reply, Request};

use crate::channel::{self, Outlet};
use crate::exec::Programs;
use crate::keep::locked;
use crate::nova::Nova;
use crate::service::Services;
use crate::shortage::Shortage;
use crate::{boot, kmsg, procfs};

/// Where records live.
const STATE_DIRECTORY: &str = "/var/lib/twin-guest";

/// A helper program that ends is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// An `input_event` of 64-bit Linux: two 8-byte times, type, code, value.
const INPUT_EVENT_BYTES: usize = 24;

/// `EV_KEY` and `KEY_POWER` of linux/input-event-codes.h.
const POWER_PRESSED: [u8; 8] = [1, 0, 116, 0, 1, 0, 0, 0];

#[derive(Clone)]
struct Agent {
    services: Services,
    nova: Nova,
    programs: Programs,
    shortage: Shortage,
    session: Arc<Mutex<Option<u64>>>,
    problems: Arc<Vec<String>>,
    under_systemd: bool,
}

/// Sets the guest up and serves the channel.
pub(crate) fn run(under_systemd: bool) -> Result<(), String> {
    // The agent has to outlive the memory shortages that it is there to report.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    clear_leftovers();

    let mut problems = Vec::new();
    if !under_systemd {
        problems.extend(boot::disk().err());
    }
    let config = boot::config().unwrap_or_else(|why| {
        problems.push(why);
        HostConfig::default()
    });
    problems.extend(boot::apply(&config));
    if let Err(error) = fs::create_dir_all(STATE_DIRECTORY) {
        problems.push(format!("cannot make {STATE_DIRECTORY}: {error}"));
    }
    let services = Services::default();
    problems.extend(services.configure(&config).err());
    let (nova, failed) = Nova::start(
        Path::new(STATE_DIRECTORY),
        config.compute,
        config.time_scale,
    );
    problems.extend(failed);
    problems.iter().for_each(|problem| kmsg::say(problem));
    let memory = procfs::memory();
    // Measured by the image builder: total, the word KiB, available.
    kmsg::say(&format!(
        "up, memory {} KiB {} KiB available",
        memory.total_kib, memory.available_kib
    ));
    if !under_systemd {
        console_and_helpers();
    }
    let agent = Agent {
        services,
        nova,
        programs: Programs::default(),
        shortage: Shortage::follow(),
        session: Arc::default(),
        problems: Arc::new(problems),
        under_systemd,
    };
    if !under_systemd {
        agent.follow_power_button();
    }
    let (asked, gone) = (agent.clone(), agent.clone());
    channel::serve(
        move |outlet, request| asked.answer(outlet, request),
        move || gone.client_gone(),
    )
}

/// Kills holders that an earlier agent left: nothing follows them any more.
fn clear_leftovers() {
    for pid in procfs::own_processes("hold") {
        if let Ok(pid) = i32::try_from(pid) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

/// A shell on the serial console, and QEMU's own agent; the kernel's messages go to the console from here on.
fn console_and_helpers() {
    keep_running(&[
        "setsid",
        "-c",
        "sh",
        "-c",
        "exec sh -l </dev/ttyS0 >/dev/ttyS0 2>&1",
    ]);
    keep_running(&[
        "qemu-ga",
        "-m",
        "virtio-serial",
        "-p",
        "/dev/virtio-ports/org.qemu.guest_agent.0",
        "-t",
        "/run",
    ]);
    link_ports();
    // Level 7 lets the OOM killer's lines, which are informational, reach the serial log.
    let _ = fs::write("/proc/sys/kernel/printk", "7 4 1 7");
}

/// Makes the links that udev would make for virtio-serial ports.
fn link_ports() {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else {
        return;
    };
    let _ = fs::create_dir_all("/dev/virtio-ports");
    for port in ports.flatten() {
        if let Ok(name) = fs::read_to_string(port.path().join("name")) {
            let device = Path::new("/dev").join(port.file_name());
            let _ = std::os::unix::fs::symlink(
                device,
                Path::new("/dev/virtio-ports").join(name.trim()),
            );
        }
    }
}

fn keep_running(argv: &'static [&'static str]) {
    std::thread::spawn(move || {
        loop {
            let _ = Command::new(argv[0])
                .args(&argv[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            std::thread::sleep(RESTART_PAUSE);
        }
    });
}

impl Agent {
    /// Powers off when the ACPI power button is pressed, as `virsh shutdown` does.
    fn follow_power_button(&self) {
        let Ok(devices) = fs::read_dir("/dev/input") else {
            return;
        };
        for device in devices
            .flatten()
            .filter(|device| device.file_name().to_string_lossy().starts_with("event"))
        {
            let agent = self.clone();
            std::thread::spawn(move || {
                use std::io::Read;
                let Ok(mut events) = fs::File::open(device.path()) else {
                    return;
                };
                let mut event = [0u8; INPUT_EVENT_BYTES];
                while events.read_exact(&mut event).is_ok() {
                    if event[16..] == POWER_PRESSED {
                        agent.power_off();
                    }
                }
            });
        }
    }

    fn power_off(&self) {
        kmsg::say("powering off");
        if self.under_systemd {
            let _ = Command::new("systemctl").arg("poweroff").status();
            return;
        }
        self.nova.kill_all();
        let _ = self.services.run_exactly(&[]);
        nix::unistd::sync();
        let none: Option<&str> = None;
        let _ = nix::mount::mount(
            none,
            "/var",
            none,
            nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY,
            none,
        );
        let _ = reboot(RebootMode::RB_POWER_OFF);
    }

    fn client_gone(&self) {
        *locked(&self.session) = None;
        self.programs.kill_others(None);
    }

    fn answer(&self, outlet: Outlet, request: Request) {
        if matches!(request, Request::Hello) {
            *locked(&self.session) = Some(outlet.session);
            self.programs.kill_others(Some(outlet.session));
            return outlet.send(&self.hello());
        }
        if *locked(&self.session) != Some(outlet.session) {
            return;
        }
        match request {
            Request::Stdin { data } => self.programs.stdin(&outlet, data),
            Request::StdinEnd => self.programs.stdin_end(outlet.session, outlet.id),
            Request::Kill => self.programs.kill(outlet.session, outlet.id),
            Request::Exec { argv, stdin } => self.programs.start(outlet, &argv, stdin),
            // The rest may take a moment: the channel goes on meanwhile.
            other => {
                let agent = self.clone();
                std::thread::spawn(move || {
                    let reply = agent
                        .carry_out(other)
                        .unwrap_or_else(|why| Reply::Failed { why });
                    outlet.send(&reply);
                });
            }
        }
    }

    fn hello(&self) -> Reply {
        Reply::Hello {
            protocol: PROTOCOL,
            boot_id: procfs::boot_id(),
            hostname: procfs::hostname(),
            uptime_ms: procfs::uptime_ms(),
            ready: true,
            problems: self.problems.to_vec(),
        }
    }

    fn carry_out(&self, request: Request) -> Result<Reply, String> {
        match request {
            Request::State => return Ok(Reply::State(Box::new(self.state()))),
            Request::KernelLog { after } => {
                return Ok(Reply::KernelLog {
                    lines: kmsg::since(after)?,
                });
            }
            Request::Clock => {
                return Ok(Reply::Clock {
                    unix_us: procfs::clock_us(),
                });
            }
            Request::ClockStep { by_us } => procfs::step_clock(by_us)?,
            Request::Configure(config) => {
                self.services.configure(&config)?;
                self.nova.configure(config.compute)?;
            }
            Request::ServicesRun { names } => self.services.run_exactly(&names)?,
            Request::ComputeReserve { reserved_mib } => self.nova.reserve(reserved_mib)?,
            Request::ComputeResume { resume } => self.nova.resume(resume)?,
            Request::InstanceBoot(instance) => self.nova.boot(&instance)?,
            Request::InstanceDelete { name } => self.nova.delete(&name),
            Request::InstanceStart { name } => self.nova.launch(&name)?,
            Request::InstanceStop { name } => self.nova.stop(&name)?,
            Request::InstanceTouch { name } => self.nova.touch(&name)?,
            Request::PowerOff => {
                let agent = self.clone();
                std::thread::spawn(move || agent.power_off());
            }
            Request::Hello
            | Request::Exec { .. }
            | Request::Stdin { .. }
            | Request::StdinEnd
            | Request::Kill => {}
        }
        Ok(Reply::Done)
    }

    fn state(&self) -> GuestState {
        let (instances, nova_log) = self.nova.states();
        GuestState {
            boot_id: procfs::boot_id(),
            uptime_ms: procfs::uptime_ms(),
            clock_ms: procfs::clock_ms(),
            memory: self.shortage.memory(),
            services: self.services.states(),
            reserved_mib: self.nova.reserved_mib(),
            resume: self.nova.resumes(),
            instances,
            nova_log,
        }
    }
}
