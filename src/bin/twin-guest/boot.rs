//! Setting a guest up from its configuration: name, interfaces, disk.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use nix::mount::{MsFlags, mount};
use twin::units::Mac;
use twin::wire::{FW_CFG_NAME, HostConfig};

/// The first disk of a micro guest.
const DISK: &str = "/dev/vda";

/// Where it is mounted.
const DISK_MOUNT: &str = "/var";

/// Reads the configuration that the hypervisor handed over.
pub(crate) fn config() -> Result<HostConfig, String> {
    let path = format!("/sys/firmware/qemu_fw_cfg/by_name/{FW_CFG_NAME}/raw");
    let bytes = fs::read(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let text = base64::engine::general_purpose::STANDARD
        .decode(bytes)
        .map_err(|error| format!("the configuration in fw_cfg is no base64: {error}"))?;
    serde_json::from_slice(&text)
        .map_err(|error| format!("the configuration in fw_cfg is not understood: {error}"))
}

/// Applies name and interfaces; returns what failed.
pub(crate) fn apply(config: &HostConfig) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = nix::unistd::sethostname(&config.hostname) {
        problems.push(format!("cannot set the host name: {error}"));
    }
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for (address, name) in &config.hosts {
        // Writing to a String does not fail.
        let _ = writeln!(hosts, "{address} {name}");
    }
    for (path, text) in [
        ("/etc/hosts", &hosts),
        ("/etc/hostname", &format!("{}\n", config.hostname)),
    ] {
        if let Err(error) = fs::write(path, text) {
            problems.push(format!("cannot write {path}: {error}"));
        }
    }
    problems.extend(interfaces(config).err());
    problems
}

/// Names the interfaces, gives them their addresses and routes, in one run of `ip -batch`.
fn interfaces(config: &HostConfig) -> Result<(), String> {
    let mut batch = String::from("link set lo up\n");
    for nic in &config.nics {
        let found = interface_with(nic.mac)
            .ok_or_else(|| format!("there is no interface with address {}", nic.mac))?;
        if found != nic.name {
            let _ = writeln!(
                batch,
                "link set {found} down\nlink set {found} name {}",
                nic.name
            );
        }
        for (address, prefix) in &nic.addresses {
            let _ = writeln!(
                batch,
                "address replace {address}/{prefix} broadcast + dev {}",
                nic.name
            );
        }
        let _ = writeln!(batch, "link set {} up", nic.name);
        if let Some(gateway) = nic.gateway {
            let _ = writeln!(
                batch,
                "route replace default via {gateway} dev {}",
                nic.name
            );
        }
    }
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run ip: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(batch.as_bytes())
            .map_err(|error| format!("cannot talk to ip: {error}"))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("cannot wait for ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "ip: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn interface_with(mac: Mac) -> Option<String> {
    let wanted = mac.to_string();
    fs::read_dir("/sys/class/net")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let address = fs::read_to_string(entry.path().join("address")).ok()?;
            (address.trim() == wanted).then(|| entry.file_name().to_string_lossy().into_owned())
        })
}

/// Mounts the first disk on /var, making a file system on it when it is blank. A guest without disk goes on in memory.
pub(crate) fn disk() -> Result<(), String> {
    if !Path::new(DISK).exists() {
        return Ok(());
    }
    if is_blank().map_err(|error| format!("cannot read {DISK}: {error}"))? {
        let made = Command::new("mke2fs")
            .args([
                "-q",
                "-F",
                "-t",
                "ext4",
                "-L",
                "twin",
                "-J",
                "size=4",
                "-E",
                "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                DISK,
            ])
            .output()
            .map_err(|error| format!("cannot run mke2fs: {error}"))?;
        if !made.status.success() {
            return Err(format!(
                "mke2fs: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            ));
        }
    }
    let none: Option<&str> = None;
    mount(
        Some(DISK),
        DISK_MOUNT,
        Some("ext4"),
        MsFlags::MS_NOATIME,
        none,
    )
    .map_err(|error| format!("cannot mount {DISK} on {DISK_MOUNT}: {error}"))
}

/// Whether the disk's first 64 KiB are all zero, as on a fresh overlay.
fn is_blank() -> std::io::Result<bool> {
    use std::io::Read;
    let mut start = Vec::new();
    fs::File::open(DISK)?
        .take(64 * 1024)
        .read_to_end(&mut start)?;
    Ok(start.iter().all(|byte| *byte == 0))
}
