//! What the benches of baselines share: labs of N hosts that have memory in use, what libvirt offers instead, and the
//! figures. Each bench makes rounds in which twin and its peers take turns, since criterion would measure one after the
//! other; criterion then gets the samples, for its statistics and its comparison with the last run.
//!
//! `BENCH_ROUNDS` (10) says how often twin is measured, `BENCH_PEERS` (3) how often the peers; `BENCH_CELLS` names the cells
//! to run, separated by commas; all when it is not set.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

pub(crate) mod figures;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use figures::Figures;

pub(crate) const STATE: &str = "/var/lib/twin";

/// Memory of a guest beyond what is used in it; what the guest's system takes comes on top of it.
const SLACK_MIB: u64 = 160;

/// Something is looked at again after this.
const LOOK: Duration = Duration::from_millis(10);

/// Memory is in use within this.
const FILLED: Duration = Duration::from_secs(300);

/// Milliseconds.
pub(crate) type Millis = u64;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Hosts.
    pub(crate) hosts: u64,
    /// MiB that are in use in each guest.
    pub(crate) used: u64,
    /// Baselines that are kept while it is measured.
    pub(crate) kept: u64,
    /// MiB a second that each guest writes all the time.
    pub(crate) dirty: u64,
}

/// The cell that the others differ from in one thing: five hosts of 512 MiB, half of it in use.
pub(crate) const BASE: Cell = Cell {
    hosts: 5,
    used: 256,
    kept: 1,
    dirty: 0,
};

/// The same with 2 GiB in use, and with guests that write.
pub(crate) const LARGE: Cell = Cell { used: 2048, ..BASE };
pub(crate) const WRITING: Cell = Cell { dirty: 20, ..BASE };

impl Cell {
    /// All cells: the base, then each thing varied by itself.
    pub(crate) fn all() -> Vec<Self> {
        let used = [512, 1024, 2048].map(|used| Self { used, ..BASE });
        let hosts = [1, 2, 4, 8].map(|hosts| Self { hosts, ..BASE });
        let kept = [2, 4, 8, 16].map(|kept| Self { kept, ..BASE });
        let dirty = [20].map(|dirty| Self { dirty, ..BASE });
        let all = [&[BASE][..], &used, &hosts, &kept, &dirty].concat();
        let wanted = std::env::var("BENCH_CELLS").ok();
        all.into_iter()
            .filter(|cell| {
                wanted
                    .as_ref()
                    .is_none_or(|names| names.split(',').any(|name| name == cell.name()))
            })
            .collect()
    }

    /// Its name: `5x256M`, with what else differs from the base.
    pub(crate) fn name(&self) -> String {
        let mut name = format!("{}x{}M", self.hosts, self.used);
        if self.kept > 1 {
            name.push_str(&format!("-{}kept", self.kept));
        }
        if self.dirty > 0 {
            name.push_str(&format!("-{}M/s", self.dirty));
        }
        name
    }

    /// Whether it takes over half of this machine's memory; says so.
    pub(crate) fn is_too_large(&self) -> bool {
        let meminfo = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
        let total = meminfo
            .lines()
            .find_map(|line| {
                line.strip_prefix("MemTotal:")?
                    .trim()
                    .split(' ')
                    .next()?
                    .parse()
                    .ok()
            })
            .map_or(0, |kib: u64| kib / 1024);
        let takes = self.hosts * (self.used + SLACK_MIB);
        let too_large = takes > total / 2;
        if too_large {
            println!(
                "{}: skipped: {takes} MiB is over half of {total} MiB",
                self.name()
            );
        }
        too_large
    }
}

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub(crate) fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn timed(act: impl FnOnce()) -> Millis {
    let from = Instant::now();
    act();
    millis(from.elapsed())
}

pub(crate) fn field(document: &Value, name: &str) -> u64 {
    document[name].as_u64().expect("a number")
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let from = Instant::now();
    while !is() {
        assert!(from.elapsed() < FILLED, "{what}: not within {FILLED:?}");
        std::thread::sleep(LOOK);
    }
}

/// A lab of a bench; destroyed when dropped.
pub(crate) struct Lab {
    name: String,
    pub(crate) hosts: Vec<String>,
    /// For files that the peers need.
    pub(crate) directory: PathBuf,
}

impl Lab {
    /// Brings a cell's lab up, its memory in files, and fills it.
    pub(crate) fn new(cell: &Cell) -> Self {
        let lab = Self::bare(cell, "file");
        let write = format!(
            "setsid twin-guest dirty {} {} >/run/filled 2>&1 &",
            cell.used, cell.dirty
        );
        lab.run(&["exec", "--all", "--", "sh", "-c", &write]);
        let filled = ["exec", "--all", "--", "grep", "-q", "first", "/run/filled"];
        until("memory in use", || {
            lab.command(&filled)
                .output()
                .expect("twin runs")
                .status
                .success()
        });
        lab
    }

    /// Brings a cell's lab up with memory of this kind.
    pub(crate) fn bare(cell: &Cell, ram: &str) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bench{}-{number}", std::process::id());
        let directory = Path::new(STATE).join(format!("{name}-files"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let lab = Self {
            name,
            hosts: (0..cell.hosts).map(|host| format!("h{host}")).collect(),
            directory,
        };
        let file = lab.directory.join("lab.yaml");
        std::fs::write(&file, lab.topology(cell, ram)).expect("a file");
        lab.run(&["up", &file.display().to_string(), "--scale", "1"]);
        lab
    }

    fn topology(&self, cell: &Cell, ram: &str) -> String {
        let mut text = format!(
            "schema: twin/topology/v1\nname: {}\nnetworks:\n  a: {{cidr: 10.75.4.0/24, gateway: 10.75.4.1, mode: nat, dhcp: static}}\n\
             defaults: {{memory: {}MiB, disk: 2GiB, vcpus: 1, ram: {ram}}}\nhosts:\n",
            self.name,
            cell.used + SLACK_MIB
        );
        for (index, host) in self.hosts.iter().enumerate() {
            text.push_str(&format!(
                "  {host}: {{nics: [{{network: a, address: 10.75.4.1{index}}}]}}\n"
            ));
        }
        text
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twin"));
        command
            .args(["--lab", &self.name, "--state-dir", STATE])
            .args(arguments)
            .env("TWIN_YES", "1")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("twin runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.run(&all)).expect("a document")
    }

    pub(crate) fn domain(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// The lab's directory on the pool.
    pub(crate) fn home(&self) -> PathBuf {
        let uuid = self.json(&["status"])["uuid"]
            .as_str()
            .expect("a UUID")
            .to_owned();
        Path::new(STATE).join("pool/labs").join(uuid)
    }

    /// Waits until all guests answer.
    pub(crate) fn answer(&self) {
        until("all guests answer", || {
            let asks: Vec<Child> = self
                .hosts
                .iter()
                .map(|host| quiet(self.command(&["exec", host, "--", "true"])))
                .collect();
            let answers: Vec<bool> = asks
                .into_iter()
                .map(|mut ask| ask.wait().expect("it ends").success())
                .collect();
            answers.iter().all(|answers| *answers)
        });
    }

    /// Runs virsh for all hosts at once.
    pub(crate) fn virsh(&self, arguments: impl Fn(&str) -> Vec<String>) {
        let all: Vec<(Vec<String>, Child)> = self
            .hosts
            .iter()
            .map(|host| {
                let arguments = arguments(host);
                let mut command = Command::new("virsh");
                command.arg("-q").args(&arguments);
                (arguments, quiet(command))
            })
            .collect();
        for (arguments, mut one) in all {
            assert!(one.wait().expect("virsh ends").success(), "{arguments:?}");
        }
    }

    /// Runs virsh for one host after the other.
    pub(crate) fn virsh_in_turn(&self, arguments: impl Fn(&str) -> Vec<String>) {
        for host in &self.hosts {
            let arguments = arguments(host);
            let mut command = Command::new("virsh");
            command.arg("-q").args(&arguments);
            assert!(
                quiet(command).wait().expect("virsh ends").success(),
                "{arguments:?}"
            );
        }
    }

    /// Runs one virsh command on every domain, at once: `suspend`, `destroy`.
    pub(crate) fn virsh_all(&self, verb: &str) {
        self.virsh(|host| vec![verb.into(), self.domain(host)]);
    }

    pub(crate) fn all_run(&self) -> bool {
        let output = Command::new("virsh")
            .args(["list", "--state-running", "--name"])
            .output()
            .expect("virsh runs");
        let running = String::from_utf8_lossy(&output.stdout).into_owned();
        self.hosts
            .iter()
            .all(|host| running.lines().any(|name| name == self.domain(host)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["destroy"]).output();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn quiet(mut command: Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}
