//! A jumphost as a guest: systemd, libvirt and twin in it, as `make install` installs them, and a lab of its own. Its power goes
//! while a run is at work, and the unit that twin was started from is killed. A guest in a guest boots in three to ten minutes.

use std::path::Path;
use std::time::Duration;

use crate::support::{
    OwnImage, TestLab, qemu_directory, root, state, text, tool, wait_for, wait_or_say,
};

/// What the jumphost boots: the debian image with libvirt and QEMU.
const PACKAGES: &str = "[systemd, systemd-sysv, udev, dbus, kmod, iproute2, procps, libvirt-daemon-system, libvirt-clients, \
     qemu-system-x86, qemu-utils, dnsmasq-base, iptables, nftables, tcpdump, util-linux]";

fn recipe(named: &str) -> String {
    let own = std::fs::read_to_string(root().join("images/debian.yaml")).unwrap();
    let (head, rest) = own.split_once("packages:\n").unwrap();
    let (_, rest) = rest.split_once("]\n").unwrap();
    format!("{head}packages: {PACKAGES}\n{rest}")
        .replace("name: debian", named)
        .replace("size: 2GiB", "size: 4GiB")
}

const JUMPHOST: &str = "schema: twin/topology/v1
name: jumphost
networks: {metal: {cidr: 10.98.8.0/24, gateway: 10.98.8.1, mode: nat, dhcp: static}}
hosts:
  j: {image: IMAGE, vcpus: 2, memory: 3GiB, disk: 8GiB, nics: [{network: metal, address: 10.98.8.10}]}
";

const INNER: &str = "schema: twin/topology/v1
name: inner
networks: {metal: {cidr: 10.66.8.0/24, gateway: 10.66.8.1, mode: nat, dhcp: static}}
defaults: {image: micro, vcpus: 1, memory: 512MiB, disk: 1GiB, ram: anon}
policy: {autostart: true}
hosts:
  a: {nics: [{network: metal, address: 10.66.8.10}]}
";

fn scenario(steps: &str) -> String {
    format!(
        "schema: twin/scenario/v1\nname: long\ntitle: A run that takes a while\n\
         variants: {{all: {{expect: {{gone: never}}}}}}\nsafety: {{baseline: none}}\n\
         probes: [{{id: gone, domain-state: {{host: a, is: crashed}}}}]\n\
         steps:\n{steps}  - {{id: wait, pause: 30m}}\nobserve: 1s\n"
    )
}

/// The jumphost, up.
struct Jumphost {
    lab: TestLab,
    _image: OwnImage,
    _directory: tempfile::TempDir,
}

impl Jumphost {
    fn new() -> Self {
        let directory = qemu_directory("jumphost");
        let (lab, image) = (TestLab::new(), OwnImage::new("jumphost"));
        image.write(directory.path(), &recipe(&image.named()));
        let topology = directory.path().join("jumphost.yaml");
        std::fs::write(&topology, JUMPHOST.replace("IMAGE", &image.name)).unwrap();
        let topology = topology.display().to_string();
        let up = ["up", &topology, "--scale", "1", "--timeout", "15m"];
        let mut up = lab.command(&up);
        let upped = up
            .env("XDG_CONFIG_HOME", directory.path())
            .output()
            .unwrap();
        assert_eq!(upped.status.code(), Some(0), "{}", text(&upped.stderr));
        let jumphost = Self {
            lab,
            _image: image,
            _directory: directory,
        };
        jumphost.install();
        for (name, content) in [
            ("inner.yaml", INNER.to_owned()),
            (
                "link.yaml",
                scenario("  - {id: link, do: {nic-link: {host: a, network: metal}}}\n"),
            ),
            (
                "both.yaml",
                scenario(
                    "  - {id: link, do: {nic-link: {host: a, network: metal}}}\n  \
                       - {id: release, do: {host-release: {host: a}}}\n",
                ),
            ),
        ] {
            jumphost.copy(content.as_bytes(), &format!("/root/{name}"));
        }
        jumphost
    }

    /// Runs a line of the shell there.
    fn sh(&self, line: &str) -> String {
        self.lab.sh("j", line)
    }

    /// The same where it may fail, or not be reached.
    fn try_sh(&self, line: &str) -> Option<String> {
        let output = self.lab.run(&["exec", "j", "--", "sh", "-c", line]);
        output.status.success().then(|| text(&output.stdout))
    }

    fn copy(&self, content: &[u8], to: &str) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, content).unwrap();
        let from = file.path().display().to_string();
        self.lab.done(&["cp", &from, &format!("j:{to}")]);
    }

    /// What `make install` installs, without symbols, and the image that its lab boots.
    fn install(&self) {
        let stage = tempfile::tempdir().unwrap();
        let place = stage.path().display().to_string();
        let at = root().display().to_string();
        tool("make", &["-s", "-C", &at, "build"]);
        let destination = format!("DESTDIR={place}");
        tool(
            "make",
            &["-s", "-C", &at, "install", &destination, "prefix=/usr"],
        );
        let guest = stage.path().join("usr/lib/twin/twin-guest");
        let image = micro(&guest).expect("this machine's own micro image");
        let images = stage.path().join("var/lib/twin/pool/images");
        std::fs::create_dir_all(&images).unwrap();
        let image = image.display().to_string();
        tool(
            "cp",
            &[
                "-r",
                "--preserve=mode",
                &image,
                &images.display().to_string(),
            ],
        );
        let packed = stage.path().join("all.tar.gz");
        let packed = packed.display().to_string();
        tool("tar", &["-C", &place, "-czf", &packed, "usr", "var"]);
        self.lab.done(&["cp", &packed, "j:/root/all.tar.gz"]);
        self.sh(
            "tar -C / --no-same-owner --no-overwrite-dir -xzf /root/all.tar.gz && rm /root/all.tar.gz && chmod 711 /var/lib/twin /var/lib/twin/pool \
             /var/lib/twin/pool/images && systemctl daemon-reload && systemctl enable twin-before-libvirt twin-after-boot",
        );
        // Kernels and initial RAM file systems are for QEMU's group.
        self.sh("chgrp -R libvirt-qemu /var/lib/twin/pool/images/* && virsh uri");
    }

    fn status(&self) -> serde_json::Value {
        let told = self.sh("twin --json status");
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    }

    /// Whether its host runs, and whether that one's link is up.
    fn link(&self) -> String {
        let line = "virsh domstate inner-a; \
             virsh domif-getlink inner-a $(virsh -q domiflist inner-a | awk '{print $5}')";
        self.sh(line)
    }

    /// Waits until a run has done its faults and pauses.
    fn waits(&self, marks: &[&str]) {
        wait_for(
            "the run has done its faults",
            Duration::from_secs(300),
            || {
                let said = self.try_sh("cat /root/said")?;
                marks.iter().all(|mark| said.contains(mark)).then_some(())
            },
        );
    }
}

/// At its boot twin waits for libvirt for up to five minutes, and for a host's guest for up to ten.
const UNITS: Duration = Duration::from_secs(1200);

/// The directory of the micro image that this twin-guest is in; made by bringing a lab up where there is none yet.
fn micro(guest: &Path) -> Option<std::path::PathBuf> {
    let lab = TestLab::new();
    let topology = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(
        topology.path(),
        INNER.replace("autostart: true", "autostart: false"),
    )
    .unwrap();
    let file = topology.path().display().to_string();
    let mut up = lab.command(&["up", &file, "--scale", "1"]);
    let upped = up.env("TWIN_GUEST", guest).output().unwrap();
    assert_eq!(upped.status.code(), Some(0), "{}", text(&upped.stderr));
    let xml = tool("virsh", &["dumpxml", &format!("{}-a", lab.name)]);
    let kernel = xml.split_once("<kernel>")?.1.split_once("</kernel>")?.0;
    assert!(
        kernel.starts_with(&state().display().to_string()),
        "{kernel}"
    );
    Path::new(kernel).parent().map(Path::to_path_buf)
}

#[test]
fn d3_a_jumphost_puts_back_what_is_open_when_it_boots_and_when_twins_unit_is_killed() {
    let jumphost = Jumphost::new();
    // The first time libvirt asks each emulator what it can do, which takes long where that is emulated itself.
    wait_for("libvirt knows its QEMU", Duration::from_secs(600), || {
        jumphost.try_sh("virsh domcapabilities --virttype qemu >/dev/null")
    });
    let up = "cd /root && twin up inner.yaml --scale 1 --accel tcg --timeout 15m 2>&1";
    println!("{}", jumphost.sh(up));
    jumphost.sh("twin exec a -- sh -c 'echo own > /var/word; sync'");
    assert!(jumphost.link().contains("up"));

    // The unit that twin was started from is killed with all that is in its cgroup. Who stands by is not.
    jumphost.sh(
        "systemd-run --quiet --unit=session -p StandardOutput=file:/root/said -p StandardError=inherit \
         twin scenario /root/link.yaml",
    );
    wait_for("the link is down", Duration::from_secs(300), || {
        jumphost.link().contains("down").then_some(())
    });
    let groups = jumphost.sh(
        "for process in $(pgrep -f '[r]ecover --stand-by'); do cat /proc/$process/cgroup; done; \
         systemctl show -p ControlGroup session",
    );
    assert!(
        groups.contains(".scope") && groups.contains("session.service"),
        "{groups}"
    );
    jumphost.sh("systemctl kill -s KILL session");
    wait_for("the link is up again", Duration::from_secs(300), || {
        jumphost.link().contains("up").then_some(())
    });
    wait_for("it is clean", Duration::from_secs(300), || {
        (jumphost.status()["dirty"] == false).then_some(())
    });

    // The power goes while a run is at work.
    jumphost.sh(
        "rm -f /root/said; systemd-run --quiet --unit=session2 -p StandardOutput=file:/root/said \
         -p StandardError=inherit twin scenario /root/both.yaml; sync",
    );
    jumphost.waits(&["release"]);
    wait_for(
        "the host is off, its disk aside",
        Duration::from_secs(300),
        || jumphost.link().contains("off").then_some(()),
    );
    let boot = jumphost.sh("cat /proc/sys/kernel/random/boot_id");
    jumphost.lab.done(&["power", "cycle", "j"]);
    wait_for("it has booted", Duration::from_secs(600), || {
        let now = jumphost.try_sh("cat /proc/sys/kernel/random/boot_id")?;
        (now != boot).then_some(())
    });
    let words = "journalctl -b --no-pager -o short-monotonic -u twin-before-libvirt -u twin-after-boot -u libvirtd";
    let over = || {
        let state = jumphost.try_sh("systemctl show -P ActiveState twin-after-boot")?;
        let over = ["active\n", "failed\n"].contains(&state.as_str());
        over.then_some(())
    };
    let say = || format!("{:?}", jumphost.try_sh(words));
    wait_or_say("its units have ended", UNITS, over, say);
    let said = jumphost.sh(words);
    println!("{said}");
    for told in [
        "release: a has its own disks",
        "a is not started until",
        "start at boot: it is on for a again",
        "link: the link of a to metal is as before",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    // In this order: what needs no libvirt, libvirt, the rest.
    let at = |unit: &str, when: &str| -> u64 {
        let line = format!("systemctl show -P {when}TimestampMonotonic {unit}");
        jumphost.sh(&line).trim().parse().unwrap()
    };
    let before = at("twin-before-libvirt", "ExecMainExit");
    let libvirt = at("libvirtd", "ExecMainStart");
    let after = at("twin-after-boot", "ExecMainStart");
    assert!(
        0 < before && before <= libvirt && libvirt < after,
        "{before} {libvirt} {after}"
    );
    let word = wait_for("a answers", Duration::from_secs(600), || {
        jumphost.try_sh("twin exec a -- cat /var/word")
    });
    assert_eq!(word.trim(), "own");
    assert!(jumphost.link().contains("up"));
    let status = jumphost.status();
    assert_eq!(status["dirty"], false, "{status}");
    let domain = jumphost.sh("virsh dominfo inner-a");
    assert!(domain.contains("Autostart:      enable"), "{domain}");
}
