//! `twin up` of the testcloud beside the same five guests started by plain QEMU, all at once, until the same sign of life:
//! twin-guest's answer on its channel. Same kernel, initrd, command line, memory, NICs and disks; both are interleaved in
//! one run, and the ratio of the medians is what counts. `twin status` of each lab is timed before it goes: at once, when
//! the guests still start their services on all cores, and again when all are healthy. The second is what is bounded.
//!
//! `BENCH_ROUNDS` (5) says how often each is measured.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use twin::guest::{Guest, TwinGuest};
use twin::model::AcceleratorChoice;
use twin::model::spec::{Boot, DomainSpec};

const STATE: &str = "/var/lib/twin";
const DEADLINE: Duration = Duration::from_secs(180);

/// How many times as long as plain QEMU `twin up` may take.
const MOST: f64 = 1.25;

/// How long `twin status` of a lab that has started may take, in milliseconds.
const STATUS_MOST: u128 = 300;

struct Lab {
    name: String,
}

impl Lab {
    /// Waits until all services of all hosts are healthy.
    fn settle(&self) {
        let until = Instant::now() + DEADLINE;
        let is_settled = |status: &serde_json::Value| {
            let hosts = status["hosts"].as_array().expect("hosts");
            hosts.iter().all(|host| {
                let services = host["services"].as_array().expect("services");
                services.iter().all(|service| service["state"] == "healthy")
            })
        };
        loop {
            let status = serde_json::from_str(&self.run(&["--json", "status"])).expect("JSON");
            if is_settled(&status) {
                return;
            }
            assert!(Instant::now() < until, "services are not healthy: {status}");
        }
    }

    fn timed(&self, arguments: &[&str]) -> Duration {
        let started = Instant::now();
        self.run(arguments);
        started.elapsed()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_twin"))
            .args(["--lab", &self.name, "--state-dir", STATE])
            .args(arguments)
            .env("TWIN_YES", "1")
            .stdin(Stdio::null())
            .output()
            .expect("twin runs");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn specs(&self) -> Vec<DomainSpec> {
        let list = text("virsh", &["list", "--all", "--name"]);
        let own = list
            .lines()
            .filter(|name| name.starts_with(&format!("{}-", self.name)));
        let spec = |name: &str| {
            let xml = text("virsh", &["dumpxml", "--inactive", name]);
            let document = roxmltree::Document::parse(&xml).expect("XML");
            let mark = document
                .descendants()
                .find(|node| node.tag_name().name() == "mark")
                .and_then(|node| node.text())
                .expect("a mark");
            let mark: twin::model::Mark = serde_json::from_str(mark).expect("a mark");
            serde_json::from_value(mark.spec).expect("a spec")
        };
        own.map(spec).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_twin"))
            .args([
                "--lab",
                &self.name,
                "--state-dir",
                STATE,
                "destroy",
                "--yes",
            ])
            .output();
    }
}

fn text(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The bridge, taps and files of the plain guests; removed when dropped.
struct Plain {
    directory: PathBuf,
    taps: Vec<String>,
    children: Vec<Child>,
}

impl Plain {
    fn prepare(specs: &[DomainSpec], directory: &Path) -> Self {
        text("ip", &["link", "add", "twbench0", "type", "bridge"]);
        text("ip", &["link", "set", "twbench0", "up"]);
        let plain = Self {
            directory: directory.to_owned(),
            taps: (0..specs.iter().map(|spec| spec.nics.len()).sum())
                .map(|number| format!("twbt{number}"))
                .collect(),
            children: Vec::new(),
        };
        for tap in &plain.taps {
            text("ip", &["tuntap", "add", tap, "mode", "tap"]);
            text("ip", &["link", "set", tap, "master", "twbench0", "up"]);
        }
        plain
    }

    /// Makes the guests' disks, blank. twin's time has that in it; this one's does not.
    fn disks(&self, specs: &[DomainSpec]) {
        for (index, spec) in specs.iter().enumerate() {
            let (disk, size) = (
                self.file(index, "qcow2"),
                format!("{}M", spec.disks[0].size.0),
            );
            text("qemu-img", &["create", "-q", "-f", "qcow2", &disk, &size]);
        }
    }

    /// One guest's command line, its configuration made.
    fn qemu(&self, index: usize, spec: &DomainSpec, taps: &[&String]) -> Command {
        let (disk, socket) = (self.file(index, "qcow2"), self.file(index, "sock"));
        let Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } = &spec.boot
        else {
            panic!("a kernel")
        };
        let config = base64::engine::general_purpose::STANDARD
            .encode(spec.config.as_deref().expect("a configuration"));
        std::fs::write(self.file(index, "config"), config).expect("written");
        let (accelerator, cpu) = match spec.accelerator {
            AcceleratorChoice::Kvm => ("kvm", "host"),
            AcceleratorChoice::Tcg => ("tcg,thread=multi,tb-size=128", "max"),
        };
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-machine",
            "q35",
            "-accel",
            accelerator,
            "-cpu",
            cpu,
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args([
            "-m",
            &spec.memory.0.to_string(),
            "-smp",
            &spec.vcpus.to_string(),
            "-kernel",
            &kernel.display().to_string(),
            "-initrd",
            &initrd.display().to_string(),
        ])
        .args([
            "-append",
            cmdline,
            "-serial",
            &format!("file:{}", self.file(index, "log")),
        ])
        .args([
            "-fw_cfg",
            &format!(
                "name={},file={}",
                twin::wire::FW_CFG_NAME,
                self.file(index, "config")
            ),
        ])
        .args([
            "-drive",
            &format!("file={disk},format=qcow2,if=virtio,cache=unsafe"),
        ])
        .args([
            "-device",
            "virtio-serial",
            "-chardev",
            &format!("socket,id=c0,path={socket},server=on,wait=off"),
        ])
        .args([
            "-device",
            &format!("virtserialport,chardev=c0,name={}", twin::wire::CHANNEL),
        ])
        .args([
            "-device",
            "virtio-balloon",
            "-object",
            "rng-random,id=r0,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=r0",
        ]);
        for (number, nic) in spec.nics.iter().enumerate() {
            let tap = taps[number];
            qemu.args([
                "-netdev",
                &format!("tap,id=n{number},ifname={tap},script=no,downscript=no"),
            ])
            .args([
                "-device",
                &format!("virtio-net-pci,netdev=n{number},mac={}", nic.mac),
            ]);
        }
        qemu
    }

    /// Starts all guests at once; returns the time until the last one has answered.
    fn boot(&mut self, specs: &[DomainSpec]) -> Duration {
        self.disks(specs);
        let started = Instant::now();
        let mut taps = self.taps.iter();
        for (index, spec) in specs.iter().enumerate() {
            let own: Vec<&String> = taps.by_ref().take(spec.nics.len()).collect();
            let mut qemu = self.qemu(index, spec, &own);
            self.children
                .push(qemu.stdin(Stdio::null()).spawn().expect("qemu starts"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let answers = (0..specs.len()).map(|index| {
                let guest = TwinGuest::new(self.file(index, "sock").into());
                async move { guest.greet(DEADLINE).await.expect("an answer") }
            });
            futures::future::join_all(answers).await;
        });
        started.elapsed()
    }

    fn file(&self, index: usize, kind: &str) -> String {
        self.directory
            .join(format!("{index}.{kind}"))
            .display()
            .to_string()
    }

    fn stop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.stop();
        for link in self.taps.iter().map(String::as_str).chain(["twbench0"]) {
            let _ = Command::new("ip").args(["link", "del", link]).output();
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let rounds: usize = std::env::var("BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let lab = Lab {
        name: format!("bench{}", std::process::id()),
    };
    lab.run(&["up", "testcloud", "--scale", "16"]);
    let specs = lab.specs();
    lab.run(&["destroy"]);
    let directory = tempfile::tempdir_in(Path::new(STATE).join("pool")).expect("a directory");
    let mut plain = Plain::prepare(&specs, directory.path());
    let (mut with_twin, mut without) = (Vec::new(), Vec::new());
    let (mut first_looks, mut looks) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        with_twin.push(lab.timed(&["up", "testcloud", "--scale", "16"]));
        first_looks.push(lab.timed(&["status"]));
        lab.settle();
        looks.push(lab.timed(&["status"]));
        lab.run(&["destroy"]);
        without.push(plain.boot(&specs));
        plain.stop();
        println!(
            "round {round}: twin up {:.2?}, plain QEMU {:.2?}, twin status at once {:.0?}, then {:.0?}",
            with_twin[round - 1],
            without[round - 1],
            first_looks[round - 1],
            looks[round - 1]
        );
    }
    let (twin, plain) = (median(with_twin), median(without));
    let ratio = twin.as_secs_f64() / plain.as_secs_f64();
    println!(
        "median of {rounds}: twin up {twin:.2?}, plain parallel QEMU {plain:.2?}, ratio {ratio:.3}"
    );
    let look = median(looks);
    let first = median(first_looks);
    println!("median of {rounds}: twin status {look:.0?}, at once after twin up {first:.0?}");
    assert!(
        ratio <= MOST,
        "twin up takes over {MOST} times as long as plain QEMU"
    );
    assert!(
        look.as_millis() <= STATUS_MOST,
        "twin status takes over {STATUS_MOST} ms"
    );
}
