//! The lines of `twin doctor`.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::{Line, TimedProbe, ram_file};
use crate::hostnet::HostNet;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::lab::{AcceleratorProbe, Layout, Space, strays};
use crate::model::AcceleratorChoice;
use crate::units::Mib;

/// A tool answers within this.
const TOOL: Duration = Duration::from_secs(10);

/// Written to measure what memory in a file costs.
const SAMPLE_BYTES: usize = 64 << 20;

/// Capabilities that libvirt has cached come at once.
const SLOW_CAPABILITIES: Duration = Duration::from_secs(1);

/// Programs that twin runs, and the package that has each.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-img", "qemu-utils"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("mmdebstrap", "mmdebstrap"),
    ("ssh", "openssh-client"),
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
];

/// What is examined.
pub struct Examination<'e> {
    /// The hypervisor.
    pub hypervisor: &'e Hypervisor,
    /// This machine's network.
    pub hostnet: &'e HostNet,
    /// The state directory.
    pub layout: &'e Layout,
    /// The accelerator probe.
    pub probe: &'e TimedProbe,
}

/// Examines this machine.
pub async fn examine(examination: &Examination<'_>) -> Vec<Line> {
    let mut lines = hypervisor_lines(examination.hypervisor).await;
    lines.extend(marks(examination.hypervisor).await);
    lines.push(accelerator(examination.probe).await);
    lines.push(tools());
    lines.push(memory());
    lines.extend(state_lines(examination.layout, examination.probe).await);
    lines.extend(filter_lines(examination.hostnet).await);
    lines.push(libvirt_guests().await);
    lines.push(nested());
    lines
}

async fn hypervisor_lines(hypervisor: &Hypervisor) -> Vec<Line> {
    let first = hypervisor.inventory.machine().await;
    // The first call may fill libvirt's cache; the second shows whether there is one.
    let started = Instant::now();
    let second = match first {
        Ok(_) => hypervisor.inventory.machine().await,
        Err(error) => Err(error),
    };
    let took = started.elapsed();
    match second {
        Ok(machine) => {
            let security = machine.security_models.join(", ");
            let apparmor = machine
                .security_models
                .iter()
                .any(|model| model == "apparmor");
            let drop_in = Path::new("/etc/apparmor.d/local/abstractions/libvirt-qemu").exists()
                && std::fs::read_to_string("/etc/apparmor.d/local/abstractions/libvirt-qemu")
                    .is_ok_and(|text| text.contains("twin"));
            vec![
                if took > SLOW_CAPABILITIES {
                    Line::degraded(
                        "libvirt",
                        format!(
                            "{}; it takes {:.1} s to tell its capabilities, at every call",
                            machine.library,
                            took.as_secs_f64()
                        ),
                        "is /dev/kvm open to root but not to QEMU's user? scripts/host-setup.sh gives it to the group kvm",
                    )
                } else {
                    Line::ok("libvirt", machine.library)
                },
                Line::ok("qemu", machine.hypervisor),
                if apparmor && !drop_in {
                    Line::degraded(
                        "security",
                        format!("{security}; AppArmor has no rule for memory files in the pool"),
                        "run scripts/host-setup.sh",
                    )
                } else {
                    Line::ok(
                        "security",
                        if security.is_empty() {
                            "no security driver".to_owned()
                        } else if apparmor {
                            format!(
                                "{security}; the rule for memory files in the pool is in every guest's profile, also of guests that are not twin's"
                            )
                        } else {
                            security
                        },
                    )
                },
            ]
        }
        Err(error) => {
            let id = if matches!(error, HypervisorError::Refused { .. }) {
                "qemu"
            } else {
                "libvirt"
            };
            vec![Line::missing(id, error.to_string(), error.cure())]
        }
    }
}

/// Things with a mark that is another thing's; nothing where libvirt does not answer, which another line tells.
async fn marks(hypervisor: &Hypervisor) -> Option<Line> {
    let domains = hypervisor.inventory.domains().await.ok()?;
    let networks = hypervisor.inventory.networks().await.ok()?;
    let strays = strays(&domains, &networks);
    if strays.is_empty() {
        return Some(Line::ok(
            "marks",
            "every mark is on the thing that it was made for",
        ));
    }
    let told: Vec<String> = strays.iter().map(|(_, stray)| stray.to_string()).collect();
    let cures = strays.iter().filter_map(|(_, stray)| stray.cure());
    let cures: Vec<String> = cures.collect();
    let cure = if cures.is_empty() {
        "nothing has to be done: no verb of twin's touches a copy".to_owned()
    } else {
        cures.join("; ")
    };
    Some(Line::degraded("marks", told.join("; "), cure))
}

async fn accelerator(probe: &TimedProbe) -> Line {
    let found = match probe.look().await {
        Ok(found) => found,
        Err(error) => {
            return Line::missing("accelerator", error.to_string(), error.cures().join("; "));
        }
    };
    let time = |milliseconds: Option<u64>| {
        milliseconds.map_or("does not boot".to_owned(), |time| format!("{time} ms"))
    };
    let detail = format!(
        "timed boot: KVM {}, TCG {}",
        time(found.kvm_ms),
        time(found.tcg_ms)
    );
    match found.choice() {
        Some(AcceleratorChoice::Kvm) => Line::ok("accelerator", format!("kvm; {detail}")),
        Some(AcceleratorChoice::Tcg) => Line::degraded(
            "accelerator",
            format!("tcg; {detail}"),
            "guests are emulated; for speed use a machine with working hardware virtualisation",
        ),
        None => Line::missing(
            "accelerator",
            detail,
            "install QEMU with scripts/host-setup.sh",
        ),
    }
}

fn tools() -> Line {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |name: &str| std::env::split_paths(&paths).any(|directory| directory.join(name).is_file());
    let missing: Vec<&(&str, &str)> = TOOLS.iter().filter(|(tool, _)| !there(tool)).collect();
    if missing.is_empty() {
        return Line::ok("tools", "all there");
    }
    let names: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    Line::missing(
        "tools",
        format!("not there: {}", names.join(", ")),
        format!("apt-get install {}", packages.join(" ")),
    )
}

fn memory() -> Line {
    let available = crate::lab::available_memory();
    let detail = format!("{available} can be had");
    if available < Mib(6 * 1024) {
        Line::degraded(
            "memory",
            detail,
            "the testcloud at its smallest takes some 5GiB",
        )
    } else {
        Line::ok("memory", detail)
    }
}

async fn state_lines(layout: &Layout, probe: &TimedProbe) -> Vec<Line> {
    let mut lines = Vec::new();
    let pool = layout.pool();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&pool.to_string_lossy()));
    if layout.pool_image().exists() && !mounted {
        lines.push(Line::missing(
            "pool",
            format!(
                "{} is not mounted on {}",
                layout.pool_image().display(),
                pool.display()
            ),
            "run scripts/host-setup.sh, which mounts it",
        ));
    }
    let mode = layout.pool_image().metadata().map(|found| found.mode());
    if let Ok(mode) = mode.map(|mode| mode & 0o777)
        && mode != 0o600
    {
        lines.push(Line::missing(
            "pool",
            format!(
                "{} has mode {mode:o}: all memory and disks of all guests are in it, and others can read them",
                layout.pool_image().display()
            ),
            "run scripts/host-setup.sh, which closes it",
        ));
    }
    if !pool.exists() {
        lines.push(Line::missing(
            "state",
            format!("there is no {}", pool.display()),
            "run scripts/host-setup.sh, which makes one that can reflink; `twin up` makes a directory",
        ));
        return lines;
    }
    let space = Space::of(layout);
    lines.push(match space.warning() {
        None => Line::ok("disk", format!("{} free in {}", space.free, pool.display())),
        Some((what, cure)) => Line::degraded("disk", what, cure),
    });
    lines.push(match reflink(&pool).await {
        Ok(true) => Line::ok("reflink", format!("{} can reflink", pool.display())),
        Ok(false) => Line::degraded(
            "reflink",
            format!("{} cannot reflink: baselines are copied", pool.display()),
            "run scripts/host-setup.sh, which makes an XFS pool",
        ),
        Err(error) => Line::degraded("reflink", format!("not tried: {error}"), "run as root"),
    });
    lines.push(ram_file_line(probe, &pool).await);
    lines
}

/// Whether the pool's file system shares extents.
async fn reflink(pool: &Path) -> std::io::Result<bool> {
    let mut original = tempfile::NamedTempFile::new_in(pool)?;
    original.write_all(&[1u8; 4096])?;
    let copy = tempfile::NamedTempFile::new_in(pool)?;
    let run = Command::new("cp")
        .arg("--reflink=always")
        .arg(original.path())
        .arg(copy.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TOOL, run)
        .await
        .map_err(std::io::Error::other)??;
    Ok(output.status.success())
}

/// How fast the pool's file system takes what is written, in MiB a second.
fn write_back(pool: &Path) -> std::io::Result<f64> {
    let mut file = tempfile::tempfile_in(pool)?;
    let block = vec![0x5au8; 1 << 20];
    let started = Instant::now();
    for _ in 0..SAMPLE_BYTES >> 20 {
        file.write_all(&block)?;
    }
    file.sync_data()?;
    let mib = u32::try_from(SAMPLE_BYTES >> 20).unwrap_or(u32::MAX);
    Ok(f64::from(mib) / started.elapsed().as_secs_f64().max(1e-6))
}

/// What memory in a file costs: new memory is slower to write, and guests that dirty it faster than the disk takes it wait.
async fn ram_file_line(probe: &TimedProbe, pool: &Path) -> Line {
    let measure = async || {
        let choice = probe.choose().await.map_err(std::io::Error::other)?;
        let price = ram_file::measure(choice, pool).await?;
        Ok::<_, std::io::Error>((price, write_back(pool)?))
    };
    match measure().await {
        Ok((price, back)) => Line::ok(
            "ram-file",
            format!(
                "guests write new memory at {} MiB/s in a file, {} MiB/s without (`ram: anon`); files are written back at {back:.0} MiB/s",
                price.file, price.anonymous
            ),
        ),
        Err(error) => Line::degraded("ram-file", format!("not measured: {error}"), "run as root"),
    }
}

async fn filter_lines(hostnet: &HostNet) -> Vec<Line> {
    let mut lines = Vec::new();
    match hostnet.firewall.tables().await {
        Ok(tables) => {
            let names: Vec<String> = tables
                .iter()
                .map(|(family, name)| format!("{family} {name}"))
                .collect();
            lines.push(Line::ok(
                "nft",
                if names.is_empty() {
                    "no tables".to_owned()
                } else {
                    names.join(", ")
                },
            ));
        }
        Err(error) => lines.push(Line::degraded(
            "nft",
            error.to_string(),
            "run as root, with nftables installed",
        )),
    }
    let mut others = Vec::new();
    if output_of("firewall-cmd", &["--state"])
        .await
        .is_some_and(|text| text.contains("running"))
    {
        others.push("firewalld");
    }
    if output_of("ufw", &["status"])
        .await
        .is_some_and(|text| text.contains("Status: active"))
    {
        others.push("ufw");
    }
    if output_of("iptables", &["-S", "FORWARD"])
        .await
        .is_some_and(|text| {
            text.lines()
                .any(|line| line.starts_with("-A") && !line.contains("LIBVIRT"))
        })
    {
        others.push("iptables rules in FORWARD");
    }
    lines.push(if others.is_empty() {
        Line::ok("filters", "only libvirt filters forwarded packets")
    } else {
        Line::degraded("filters", format!("{} filter too", others.join(", ")), "expect their rules in scenarios about the network; see that they let the lab's bridges through")
    });
    lines
}

async fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let run = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null())
        .output();
    let output = tokio::time::timeout(TOOL, run).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// libvirt-guests saves running domains when this machine shuts down, which brings a lab back half old, half new.
async fn libvirt_guests() -> Line {
    let manages = Path::new("/run/systemd/system").exists();
    let enabled = manages
        && output_of("systemctl", &["is-enabled", "libvirt-guests"])
            .await
            .is_some_and(|text| text.trim() == "enabled");
    let settings = std::fs::read_to_string("/etc/default/libvirt-guests").unwrap_or_default();
    let shuts_down = settings
        .lines()
        .any(|line| line.trim() == "ON_SHUTDOWN=shutdown");
    if enabled && !shuts_down {
        Line::degraded(
            "libvirt-guests",
            "it saves running domains when this machine shuts down",
            "`twin down` before a reboot, or ON_SHUTDOWN=shutdown in /etc/default/libvirt-guests",
        )
    } else {
        Line::ok(
            "libvirt-guests",
            if enabled {
                "shuts domains down with this machine"
            } else {
                "does not run"
            },
        )
    }
}

fn nested() -> Line {
    let read = |module: &str| {
        std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok()
    };
    match read("kvm_amd")
        .or_else(|| read("kvm_intel"))
        .as_deref()
        .map(str::trim)
    {
        Some("1" | "Y") => Line::ok("nested", "guests can run guests of their own under KVM"),
        Some(_) => Line::degraded(
            "nested",
            "guests cannot run guests of their own",
            "load kvm_amd or kvm_intel with nested=1; lab instances do not need it",
        ),
        None => Line::ok("nested", "no KVM module; lab instances do not need it"),
    }
}
