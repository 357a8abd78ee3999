//! `twin snapshot` and `twin restore` of five micro hosts beside libvirt's own ways, in the same run: parallel `virsh save`
//! and `virsh restore` (the old guests destroyed first). The restores alternate; medians and ratios are printed.
//!
//! `BENCH_ROUNDS` (10) says how often twin's are measured, `BENCH_PEERS` (3) how often the peers'; `BENCH_USED_MIB` (100)
//! how much memory each guest fills, `BENCH_DIRTY` (0) how many MiB a second each writes all the time.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const STATE: &str = "/var/lib/twin";
const HOSTS: [&str; 5] = ["h0", "h1", "h2", "h3", "h4"];

/// Memory of a guest beyond what it fills.
const SLACK_MIB: u64 = 412;

/// A guest is asked again after this.
const LOOK: Duration = Duration::from_millis(10);

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

struct Lab {
    name: String,
    directory: PathBuf,
}

impl Lab {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twin"));
        command
            .args(["--lab", &self.name, "--state-dir", STATE])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("twin runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.run(&all)).expect("a document")
    }

    fn domain(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// Waits until all guests answer.
    fn answer(&self) {
        let asks: Vec<Child> = HOSTS
            .iter()
            .map(|host| self.quiet(self.command(&["exec", host, "--", "true"])))
            .collect();
        for mut ask in asks {
            assert!(
                ask.wait().expect("it ends").success(),
                "a guest does not answer"
            );
        }
    }

    fn quiet(&self, mut command: Command) -> Child {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    }

    /// Runs virsh for all hosts at once.
    fn virsh(&self, arguments: impl Fn(&str) -> Vec<String>) {
        let all: Vec<Child> = HOSTS
            .iter()
            .map(|host| {
                let mut command = Command::new("virsh");
                command.arg("-q").args(arguments(host));
                self.quiet(command)
            })
            .collect();
        for mut one in all {
            one.wait().expect("virsh ends");
        }
    }

    fn all_run(&self) -> bool {
        let output = Command::new("virsh")
            .args(["list", "--state-running", "--name"])
            .output()
            .expect("virsh runs");
        let running = String::from_utf8_lossy(&output.stdout).into_owned();
        HOSTS
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

fn topology(name: &str, memory: u64) -> String {
    let mut text = format!(
        "schema: twin/topology/v1\nname: {name}\nnetworks:\n  a: {{cidr: 10.75.4.0/24, gateway: 10.75.4.1, mode: nat, dhcp: static}}\n\
         defaults: {{memory: {memory}MiB, disk: 2GiB, vcpus: 1}}\nhosts:\n"
    );
    for (index, host) in HOSTS.iter().enumerate() {
        text.push_str(&format!(
            "  {host}: {{nics: [{{network: a, address: 10.75.4.1{index}}}]}}\n"
        ));
    }
    text
}

fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds are small")]
fn ratio(mine: u64, theirs: u64) -> f64 {
    mine as f64 / theirs.max(1) as f64
}

fn timed(act: impl FnOnce()) -> u64 {
    let from = Instant::now();
    act();
    u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A stream restore of all hosts at once, the old guests destroyed first: until all run, and until all answer.
fn virsh_restore(lab: &Lab, directory: &Path) -> (u64, u64) {
    let from = Instant::now();
    lab.virsh(|host| vec!["destroy".into(), lab.domain(host)]);
    lab.virsh(|host| vec!["restore".into(), directory.join(host).display().to_string()]);
    while !lab.all_run() {
        std::thread::sleep(LOOK);
    }
    let running = from.elapsed().as_millis();
    lab.answer();
    let part = |time: u128| u64::try_from(time).unwrap_or(u64::MAX);
    (part(running), part(from.elapsed().as_millis()))
}

fn main() {
    let (rounds, peers) = (number("BENCH_ROUNDS", 10), number("BENCH_PEERS", 3));
    let (used, dirty) = (number("BENCH_USED_MIB", 100), number("BENCH_DIRTY", 0));
    let name = format!("bench{}", std::process::id());
    let directory = Path::new(STATE).join(format!("{name}-files"));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("five.yaml");
    std::fs::write(&file, topology(&name, used + SLACK_MIB)).expect("a file");
    let lab = Lab {
        name,
        directory: directory.clone(),
    };
    lab.run(&["up", &file.display().to_string(), "--scale", "1"]);
    for host in HOSTS {
        let write = format!("setsid twin-guest dirty 64 {dirty} >/dev/null 2>&1 &");
        lab.run(&[
            "exec",
            host,
            "--",
            "sh",
            "-c",
            &format!("head -c {used}m /dev/urandom > /run/fill"),
        ]);
        if dirty > 0 {
            lab.run(&["exec", host, "--", "sh", "-c", &write]);
        }
    }
    let (mut pauses, mut walls, mut written) = (Vec::new(), Vec::new(), Vec::new());
    let (mut running, mut ready) = (Vec::new(), Vec::new());
    let (mut peer_running, mut peer_ready) = (Vec::new(), Vec::new());
    let field = |document: &Value, name: &str| document[name].as_u64().expect("a number");
    lab.run(&["snapshot", "first"]);
    let saved = timed(|| {
        lab.virsh(|host| {
            vec![
                "save".into(),
                lab.domain(host),
                directory.join(host).display().to_string(),
            ]
        });
    });
    lab.virsh(|host| vec!["restore".into(), directory.join(host).display().to_string()]);
    lab.answer();
    for round in 0..rounds {
        let name = format!("r{round}");
        let taken = lab.json(&["snapshot", &name]);
        pauses.push(field(&taken, "set_pause_ms"));
        walls.push(field(&taken, "wall_ms"));
        written.push(field(&taken, "bytes_written") >> 10);
        let restored = lab.json(&["restore", &name]);
        running.push(field(&restored, "running_ms"));
        ready.push(field(&restored, "ready_ms"));
        if round < peers {
            let (runs, answers) = virsh_restore(&lab, &directory);
            peer_running.push(runs);
            peer_ready.push(answers);
            lab.run(&["restore", &name]);
        }
    }
    println!(
        "five hosts, {used} MiB filled each, {dirty} MiB/s written each; medians of {rounds} (peers {peers})"
    );
    println!(
        "twin snapshot: set pause {} ms, {} ms in all, {} KiB written by disks",
        median(&mut pauses),
        median(&mut walls),
        median(&mut written)
    );
    println!("parallel virsh save: {saved} ms");
    let (mine, theirs) = (median(&mut running), median(&mut peer_running));
    println!(
        "all running: twin restore {mine} ms, parallel virsh restore {theirs} ms, ratio {:.3}",
        ratio(mine, theirs)
    );
    let (mine, theirs) = (median(&mut ready), median(&mut peer_ready));
    println!(
        "all answering: twin restore {mine} ms, parallel virsh restore {theirs} ms, ratio {:.3}",
        ratio(mine, theirs)
    );
}
