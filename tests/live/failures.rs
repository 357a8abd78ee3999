//! What goes wrong at two in the morning: each a clear error with its cure, and a lab that a later `up` completes.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::support::{
    TestLab, blank_image, full, qemu_directory, restart_libvirtd, text, tool, wait_for,
};
use crate::turns;

fn topology(directory: &std::path::Path, host: &str) -> String {
    let path = directory.join("broken.yaml");
    let text = format!(
        "schema: twin/topology/v1\nname: broken\nnetworks:\n  metal: {{cidr: 10.78.8.0/24, gateway: 10.78.8.1, mode: nat, dhcp: static}}\nhosts:\n  a: {host}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_wrong_hash_is_told_before_anything_is_made() {
    let lab = TestLab::new();
    let directory = qemu_directory("hash");
    let image = directory.path().join("image.qcow2");
    blank_image(&image, "64M");
    let host = format!(
        "{{image: cloud, source: {{path: {}, sha256: {}}}, nics: [{{network: metal, address: 10.78.8.10}}]}}",
        image.display(),
        "0".repeat(64)
    );
    let output = lab.run(&["up", &topology(directory.path(), &host)]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("has SHA-256") && text(&output.stderr).contains("cure"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(lab.traces(), Vec::<String>::new());
}

#[test]
fn a_guest_that_never_answers_is_told_with_the_last_thing_seen() {
    let lab = TestLab::new();
    let directory = qemu_directory("mute");
    let image = directory.path().join("blank.qcow2");
    blank_image(&image, "64M");
    let host = format!(
        "{{image: cloud, disk: 128MiB, memory: 128MiB, source: {{path: {}}}, nics: [{{network: metal, address: 10.78.8.10}}]}}",
        image.display()
    );
    let output = lab.run(&["up", &topology(directory.path(), &host), "--timeout", "4s"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for sign in [
        "logging in at 10.",
        "no lease: ",
        "no ARP: no host answers at 10.",
        "its console",
    ] {
        assert!(said.contains(sign), "{sign}: {said}");
    }
}

#[test]
fn a_guest_that_panics_is_told_by_its_console_and_a_power_cycle_brings_it_back() {
    let lab = TestLab::new();
    lab.done(&["up", "tiny"]);
    // The guest's kernel is gone in the middle of the call: its end is not looked at.
    let mut child = lab.spawn(&[
        "exec",
        "b",
        "--",
        "sh",
        "-c",
        "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger",
    ]);
    wait_for("crashed", Duration::from_secs(60), || {
        lab.done(&["status"])
            .lines()
            .any(|line| line.starts_with("b ") && line.contains("crashed"))
            .then_some(())
    });
    let _ = child.kill();
    child.wait().unwrap();
    let output = lab.run(&["up", "tiny"]);
    assert_eq!(output.status.code(), Some(1), "a crashed host is reported");
    assert!(
        text(&output.stderr).contains("it is crashed")
            && text(&output.stderr).contains("twin power cycle b"),
        "{}",
        text(&output.stderr)
    );
    lab.done(&["power", "cycle", "b"]);
    lab.done(&["up", "tiny"]);
    assert_eq!(
        lab.run(&["exec", "--all", "--", "true"]).status.code(),
        Some(0)
    );
}

/// Unmounts when it goes.
struct Mounted(String);
impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_state_disk_is_told_and_the_lab_is_completed_later() {
    let directory = qemu_directory("full");
    let (file, mount) = (
        directory.path().join("disk"),
        directory.path().join("mount"),
    );
    tool("truncate", &["-s", "320M", &file.display().to_string()]);
    tool("mkfs.xfs", &["-q", &file.display().to_string()]);
    std::fs::create_dir(&mount).unwrap();
    tool(
        "mount",
        &[
            "-o",
            "loop",
            &file.display().to_string(),
            &mount.display().to_string(),
        ],
    );
    let _mounted = Mounted(mount.display().to_string());
    let mut lab = TestLab::new();
    lab.state = mount.join("state");
    let output = lab.run(&["up", "tiny", "--accel", "tcg"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("free space on the state disk") || said.contains("No space left"),
        "{said}"
    );
    // Space is made, and the same command completes the lab.
    tool("truncate", &["-s", "4G", &file.display().to_string()]);
    let device = tool(
        "findmnt",
        &["-n", "-o", "SOURCE", &mount.display().to_string()],
    );
    tool("losetup", &["-c", device.trim()]);
    tool("xfs_growfs", &[&mount.display().to_string()]);
    lab.done(&["up", "tiny", "--accel", "tcg"]);
    lab.done(&["exec", "--all", "--", "true"]);
    lab.done(&["destroy"]);
}

#[test]
fn without_permission_the_cure_is_named() {
    let directory = qemu_directory("nobody");
    let binary = directory.path().join("twin");
    std::fs::copy(env!("CARGO_BIN_EXE_twin"), &binary).unwrap();
    // Also where it was built under a strict umask.
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&binary)
            .args(arguments)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        said
    };
    // What changes something is refused before anything is done, with the line that works.
    let said = as_nobody(&["up", "tiny"]);
    assert!(
        said.contains(&format!("run as root: `sudo {} up tiny`", binary.display())),
        "{said}"
    );
    // What only looks fails at libvirt's socket.
    let said = as_nobody(&["status"]);
    assert!(
        said.contains("no permission to use qemu:///system") && said.contains("group libvirt"),
        "{said}"
    );
}

#[test]
fn without_qemu_the_package_is_named() {
    let lab = TestLab::new();
    let directory = tempfile::tempdir().unwrap();
    let output = lab
        .command(&["up", "tiny", "--scale", "1"])
        .env("PATH", directory.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("scripts/host-setup.sh"), "{said}");
}

/// Rules of this machine that name a bridge.
fn rules(bridge: &str) -> usize {
    ["iptables-save", "ip6tables-save"]
        .iter()
        .map(|list| tool(list, &[]))
        .chain([tool("nft", &["list", "ruleset"])])
        .map(|rules| rules.lines().filter(|line| line.contains(bridge)).count())
        .sum()
}

/// libvirtd dies while it starts the lab's networks, and later between two steps: what it leaves of a bridge is twin's own.
#[test]
fn up_survives_a_restart_of_libvirtd() {
    let _turn = turns::alone();
    let lab = TestLab::new();
    lab.done(&["up", "tiny"]);
    let bridge = lab.bridge("metal");
    let (clean, link) = (rules(&bridge), format!("/sys/class/net/{bridge}"));
    assert!(clean > 0, "libvirt's rules name the bridge");
    let all: &[u64] = if full() {
        &[0, 5, 15, 50, 200, 700]
    } else {
        &[15]
    };
    for after in all {
        lab.done(&["destroy"]);
        assert_eq!(rules(&bridge), 0);
        let child = lab.spawn(&["up", "tiny"]);
        wait_closely("the bridge", Duration::from_secs(60), || {
            std::path::Path::new(&link).exists()
        });
        // How far libvirt has come by then is what differs; no state is waited for.
        std::thread::sleep(Duration::from_millis(*after));
        restart_libvirtd();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(4), "{said}");
            assert!(said.contains("cure"), "{said}");
            lab.done(&["up", "tiny"]);
        }
        assert_eq!(lab.json(&["up", "tiny"])["changed"], 0);
        let answers = lab.run(&["exec", "--all", "--", "true"]);
        assert_eq!(answers.status.code(), Some(0), "{}", text(&answers.stderr));
        assert_eq!(rules(&bridge), clean, "no rule twice, {after} ms in");
    }
    // A start that was cut off and is not tried again: destroy removes it too.
    lab.done(&["destroy"]);
    let mut child = lab.spawn(&["up", "tiny"]);
    wait_closely("the bridge", Duration::from_secs(60), || {
        std::path::Path::new(&link).exists()
    });
    child.kill().unwrap();
    restart_libvirtd();
    child.wait().unwrap();
    lab.done(&["destroy"]);
    assert!(!std::path::Path::new(&link).exists());
    assert_eq!(rules(&bridge), 0);
}

/// Waits for what is over in milliseconds.
fn wait_closely(what: &str, deadline: Duration, found: impl Fn() -> bool) {
    let until = std::time::Instant::now() + deadline;
    while !found() {
        assert!(
            std::time::Instant::now() < until,
            "{what}: not within {deadline:?}"
        );
        std::thread::sleep(Duration::from_micros(500));
    }
}
