//! The images beside each other in one lab: a systemd guest, a guest from elsewhere with its seed, one that boots from the
//! network. The first two take minutes to make, so they run at full size only; the sample boots the third.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{TestLab, full, qemu_directory, root, text, tool, wait_for};

/// The hosts that a full run adds.
fn more_hosts(cloud: &str, sha256: &str) -> String {
    format!(
        "  d: {{image: debian, memory: 1GiB, disk: 3GiB, nics: [{{network: metal, address: 10.88.8.11, default-route: true}}], \
         services: [{{name: mysqld, memory: 64MiB, ports: [3306]}}]}}\n  \
         n: {{image: cloud, memory: 1GiB, disk: 3GiB, source: {{path: {cloud}, sha256: {sha256}}}, \
         nics: [{{network: metal, address: 10.88.8.12, default-route: true}}]}}\n"
    )
}

#[test]
fn every_image_boots_and_is_usable_in_one_lab() {
    let lab = TestLab::new();
    let directory = qemu_directory("images");
    let mut topology = "schema: twin/topology/v1\nname: images\nnetworks:\n  \
         metal: {cidr: 10.88.8.0/24, gateway: 10.88.8.1, mode: nat, dhcp: static}\n  \
         pxe: {cidr: 10.88.9.0/24, mode: isolated}\ndefaults: {memory: 512MiB, disk: 2GiB}\nhosts:\n  \
         m: {nics: [{network: metal, address: 10.88.8.10, default-route: true}]}\n  \
         p: {image: pxe, memory: 256MiB, nics: [{network: pxe}]}\n"
        .to_owned();
    if full() {
        let cloud = directory.path().join("cloud.qcow2").display().to_string();
        let made = tool(
            &root()
                .join("scripts/make-cloud-image.sh")
                .display()
                .to_string(),
            &[&cloud],
        );
        let sha256 = made
            .lines()
            .last()
            .and_then(|line| line.split(' ').next())
            .expect("a hash");
        topology.push_str(&more_hosts(&cloud, sha256));
    }
    let file = directory.path().join("images.yaml");
    std::fs::write(&file, topology).unwrap();
    lab.done(&["up", &file.display().to_string(), "--timeout", "6m"]);
    assert_eq!(lab.run(&["exec", "m", "--", "true"]).status.code(), Some(0));
    a_pxe_host_asks_for_an_address(&lab);
    if full() {
        assert_eq!(lab.done(&["exec", "d", "--", "hostname"]).trim(), "d");
        // A lab that does not bear its topology's name has subnets of its own.
        let status = lab.json(&["status"]);
        let hosts = status["hosts"].as_array().unwrap();
        let m = hosts.iter().find(|host| host["name"] == "m").unwrap();
        let address = m["addresses"][0].as_str().unwrap();
        wait_for("d reaches m", Duration::from_secs(60), || {
            let ping = lab.run(&["exec", "d", "--", "ping", "-c1", "-W5", address]);
            (ping.status.code() == Some(0)).then_some(())
        });
        let running = || {
            lab.done(&[
                "exec",
                "d",
                "--",
                "sh",
                "-c",
                "systemctl is-system-running; true",
            ])
        };
        wait_for("systemd has settled", Duration::from_secs(120), || {
            (running().trim() == "running").then_some(())
        });
        assert!(lab.done(&["exec", "n", "--", "id", "-un"]).contains("twin"));
        assert_eq!(
            lab.run(&["exec", "n", "--", "sudo", "-n", "true"])
                .status
                .code(),
            Some(0)
        );
        assert_eq!(
            lab.run(&["exec", "n", "--", "sh", "-c", "exit 7"])
                .status
                .code(),
            Some(7)
        );
        let cloud = directory.path().join("cloud.qcow2");
        a5_a_source_that_was_replaced_boots_no_guest(&lab, &file, &cloud);
    }
}

/// Disks lie on it: another file in its place is told before any guest boots from it.
fn a5_a_source_that_was_replaced_boots_no_guest(lab: &TestLab, topology: &Path, source: &Path) {
    let domain = format!("{}-n", lab.name);
    let off = || tool("virsh", &["domstate", &domain]).trim() == "shut off";
    lab.done(&["down", "--force"]);
    let length = source.metadata().unwrap().len();
    let resize = |to: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(source);
        file.unwrap().set_len(to).unwrap();
    };
    resize(length + 512);
    let topology = topology.display().to_string();
    for verb in [&["up", &topology][..], &["power", "on", "n"]] {
        let refused = lab.run(verb);
        let said = text(&refused.stderr);
        assert_ne!(refused.status.code(), Some(0), "{verb:?}: {said}");
        assert!(said.contains("cloud.qcow2"), "{verb:?}: {said}");
        let replaced = said.contains("replaced since") || verb[0] == "up";
        assert!(replaced, "{verb:?}: {said}");
        assert!(off(), "{verb:?}");
    }
    resize(length);
    lab.done(&["power", "on", "n"]);
    assert!(!off());
}

/// Sees the host's DHCP request on its bridge: the bridge's own counter of what came in from it rises, and what comes in
/// is a request from its MAC.
fn a_pxe_host_asks_for_an_address(lab: &TestLab) {
    let status = lab.json(&["status"]);
    let networks = status["networks"].as_array().unwrap();
    let bridge = networks
        .iter()
        .find(|network| network["name"] == "pxe")
        .and_then(|network| network["bridge"].as_str())
        .unwrap();
    let name = format!("{}-p", lab.name);
    let xml = tool("virsh", &["dumpxml", &name]);
    let mac = xml
        .split("<mac address='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    let mut capture = Command::new("tcpdump")
        .args([
            "-c", "1", "-n", "-e", "-l", "-i", bridge, "udp", "port", "67",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tcpdump runs");
    lab.done(&["power", "cycle", "p"]);
    wait_for("a DHCP request", Duration::from_secs(90), || {
        capture.try_wait().unwrap()
    });
    let seen = text(&capture.wait_with_output().unwrap().stdout);
    assert!(
        seen.contains(mac) && seen.contains("BOOTP/DHCP, Request"),
        "{seen}"
    );
}
