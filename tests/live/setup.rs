//! `scripts/host-setup.sh` in a root file system of its own, with a libvirt that is played.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{root, text};

/// Where the machine is that a test sets up.
struct Machine(tempfile::TempDir);

/// A libvirt that answers, and knows the domains that files in /domains describe.
const STUBS: &[(&str, &str)] = &[
    (
        "virsh",
        "case \"$*\" in *' uri') echo qemu:///system ;; *list*) ls /domains 2>/dev/null ;; \
         *dumpxml*) for n; do :; done; cat \"/domains/$n\" ;; esac",
    ),
    (
        "pgrep",
        "case \"$*\" in *qemu-system*) exit 1 ;; *) exit 0 ;; esac",
    ),
    ("systemctl", "echo \"systemctl $*\" >>/systemctl.log"),
    ("aa-status", "exit 0"),
    ("udevadm", "exit 0"),
];

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir_in("/var/tmp").unwrap());
        let stubs = machine.path("stubs");
        std::fs::create_dir_all(&stubs).unwrap();
        for (name, text) in STUBS {
            let file = stubs.join(name);
            std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        // A daemon's socket, a systemd, and a QEMU whose settings end without a newline.
        let made = machine.run(
            "mkdir -p /run/systemd/system /domains /etc/apparmor.d/local/abstractions; \
             python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/run/libvirt/libvirt-sock\")'; \
             printf '# an operator wrote this' >/etc/libvirt/qemu.conf; printf 'proc /proc proc defaults 0 0' >/etc/fstab; \
             printf '  # none' >/etc/apparmor.d/local/abstractions/libvirt-qemu",
        );
        assert!(made.status.success(), "{}", text(&made.stderr));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script in it.
    fn run(&self, script: &str) -> Output {
        Command::new("unshare")
            .arg("-m")
            .arg("sh")
            .arg(root().join("tests/live/chroot.sh"))
            .arg(self.0.path())
            .arg(script)
            .output()
            .unwrap()
    }

    /// Runs a script that has to end with this code; returns all that it says.
    fn says(&self, script: &str, code: i32) -> String {
        let output = self.run(script);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{script}: {said}");
        said
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

const SETUP: &str = "/repo/scripts/host-setup.sh --pool-size 1G";

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a7_a_second_run_changes_nothing_and_remove_takes_back_what_the_first_did() {
    let machine = Machine::new();
    let dry = machine.says(&format!("{SETUP} --dry-run"), 0);
    assert!(dry.contains("nothing was done"), "{dry}");
    assert!(!machine.path("var/lib/twin").exists());
    assert_eq!(
        machine.read("etc/libvirt/qemu.conf"),
        "# an operator wrote this"
    );

    // Two runs in one namespace: the pool stays mounted between them.
    let said = machine.says(&format!("umask 000; {SETUP} && {SETUP}"), 0);
    assert!(said.ends_with("done; 0 steps\n"), "{said}");
    let conf = machine.read("etc/libvirt/qemu.conf");
    let lines: Vec<&str> = conf.lines().collect();
    assert_eq!(lines.len(), 2, "{conf}");
    assert_eq!(lines[0], "# an operator wrote this");
    assert!(
        lines[1].starts_with("memory_backing_dir = \"/var/lib/twin/pool/ram\""),
        "{conf}"
    );
    assert_eq!(
        machine.read("etc/libvirt/qemu.conf.before-twin"),
        "# an operator wrote this"
    );
    let fstab = machine.read("etc/fstab");
    assert!(
        fstab.starts_with("proc /proc proc defaults 0 0\n/var/lib/twin/pool.xfs "),
        "{fstab}"
    );
    assert!(
        fstab.contains("x-systemd.before=libvirtd.service"),
        "a6: {fstab}"
    );
    let drop_in = machine.read("etc/systemd/system/libvirtd.service.d/twin-pool.conf");
    assert!(
        drop_in.contains("RequiresMountsFor=/var/lib/twin/pool"),
        "a6: {drop_in}"
    );
    // Closed whatever the umask was.
    assert_eq!(mode(&machine.path("var/lib/twin/pool.xfs")), 0o600, "b1");
    assert_eq!(mode(&machine.path("var/lib/twin")), 0o711, "b1");

    let said = machine.says(
        "mount -o loop /var/lib/twin/pool.xfs /var/lib/twin/pool; /repo/scripts/host-setup.sh --remove",
        0,
    );
    assert!(!machine.path("var/lib/twin").exists(), "{said}");
    assert_eq!(
        machine.read("etc/libvirt/qemu.conf"),
        "# an operator wrote this\n"
    );
    assert_eq!(machine.read("etc/fstab"), "proc /proc proc defaults 0 0\n");
    assert!(
        !machine
            .path("etc/systemd/system/libvirtd.service.d/twin-pool.conf")
            .exists()
    );
    // What is gone already is no reason to end without a word.
    let again = machine.says("/repo/scripts/host-setup.sh --remove", 0);
    assert!(again.contains("0 steps"), "{again}");
}

#[test]
fn a7_remove_takes_only_what_it_knows_from_a_directory_that_it_made() {
    let machine = Machine::new();
    // Another's directory is used as it is, and never removed.
    machine.says(
        "mkdir /srv/data; chmod 755 /srv/data; echo thesis >/srv/data/f; /repo/scripts/host-setup.sh --no-pool --state-dir /srv/data",
        0,
    );
    let said = machine.says(
        "/repo/scripts/host-setup.sh --remove --state-dir /srv/data",
        4,
    );
    assert!(said.contains("was not made by this script"), "{said}");
    assert_eq!(machine.read("srv/data/f"), "thesis\n");
    assert_eq!(mode(&machine.path("srv/data")), 0o755);

    // The pool is not mounted: labs may be in it.
    machine.says(&format!("{SETUP}; umount /var/lib/twin/pool"), 0);
    let said = machine.says("/repo/scripts/host-setup.sh --remove", 4);
    assert!(said.contains("is not mounted"), "{said}");
    assert!(machine.path("var/lib/twin/pool.xfs").exists());

    // A domain with a mark; a lab; a stranger's file in the pool.
    let mounted = "mount -o loop /var/lib/twin/pool.xfs /var/lib/twin/pool";
    std::fs::write(
        machine.path("domains/h-a"),
        "<mark xmlns='urn:twin:mark:1'/>",
    )
    .unwrap();
    let said = machine.says(
        &format!("{mounted}; /repo/scripts/host-setup.sh --remove"),
        4,
    );
    assert!(said.contains("h-a"), "{said}");
    std::fs::remove_file(machine.path("domains/h-a")).unwrap();
    for (what, told) in [("labs/x", "there is a lab"), ("debian.iso", "not twin's")] {
        let make = format!("mkdir -p /var/lib/twin/pool/labs; touch /var/lib/twin/pool/{what}");
        let said = machine.says(
            &format!("{mounted}; {make}; /repo/scripts/host-setup.sh --remove; c=$?; rm -r /var/lib/twin/pool/{what}; exit $c"),
            4,
        );
        assert!(said.contains(told), "{said}");
        assert!(machine.path("var/lib/twin/pool.xfs").exists());
    }

    // What else is there stays, and is named.
    std::fs::write(machine.path("var/lib/twin/notes.txt"), "an operator's").unwrap();
    std::fs::write(machine.path("var/lib/twin/journal.sqlite"), "").unwrap();
    let said = machine.says(
        &format!("{mounted}; /repo/scripts/host-setup.sh --remove"),
        0,
    );
    assert!(said.contains("/var/lib/twin/notes.txt"), "{said}");
    assert_eq!(machine.read("var/lib/twin/notes.txt"), "an operator's");
    assert!(!machine.path("var/lib/twin/pool.xfs").exists());
    assert!(!machine.path("var/lib/twin/journal.sqlite").exists());
}

#[test]
fn b4_the_apparmor_rule_opens_memory_files_only_and_an_older_wider_one_goes() {
    let machine = Machine::new();
    let file = "/etc/apparmor.d/local/abstractions/libvirt-qemu";
    machine.says(
        &format!("printf '\\n  /var/lib/twin/pool/ram/** rwk, # twin\\n  /srv/mine r, # twin\\n' >>{file}; {SETUP}"),
        0,
    );
    let rules = machine.read("etc/apparmor.d/local/abstractions/libvirt-qemu");
    assert!(!rules.contains("ram/** rwk"), "{rules}");
    assert!(
        rules.contains("  owner /var/lib/twin/pool/ram/libvirt/qemu/*/pc.ram rwk, # twin\n"),
        "{rules}"
    );
    assert!(
        rules.contains("  /srv/mine r, # twin\n"),
        "another's line that ends so: {rules}"
    );
    // AppArmor's own parser reads it.
    let profile =
        "profile t flags=(attach_disconnected) { include <local/abstractions/libvirt-qemu> }";
    let parsed = machine.run(&format!("printf 'abi <abi/3.0>,\\n%s\\n' '{profile}' >/tmp/p; apparmor_parser -Q -K -T -I /etc/apparmor.d /tmp/p"));
    assert!(parsed.status.success(), "{}", text(&parsed.stderr));
}

#[test]
fn b1_a_pool_that_others_can_read_is_closed() {
    let machine = Machine::new();
    machine.says(&format!("{SETUP}; chmod 644 /var/lib/twin/pool.xfs"), 0);
    let said = machine.says(SETUP, 0);
    assert!(
        said.contains("take /var/lib/twin/pool.xfs from other users"),
        "{said}"
    );
    assert_eq!(mode(&machine.path("var/lib/twin/pool.xfs")), 0o600);
}

#[test]
fn a7_a_pool_that_is_there_grows_and_does_not_shrink() {
    let machine = Machine::new();
    let grown = "/repo/scripts/host-setup.sh --pool-size 3G";
    let kept = "echo kept >/var/lib/twin/pool/notes";
    let space = "df --output=size -BM /var/lib/twin/pool | tail -n 1; cat /var/lib/twin/pool/notes";
    let said = machine.says(&format!("{SETUP} && {kept} && {grown} && {space}"), 0);
    assert!(said.contains("let the pool grow to 3G"), "{said}");
    let size = said.lines().rev().nth(1).unwrap().trim();
    let size: u64 = size.strip_suffix('M').unwrap().parse().unwrap();
    assert!(
        (2900..=3072).contains(&size) && said.ends_with("kept\n"),
        "{said}"
    );
    let mounted = "mount -o loop /var/lib/twin/pool.xfs /var/lib/twin/pool";
    let again = machine.says(&format!("{mounted}; {SETUP}; {grown}"), 0);
    assert!(
        again.contains("it has 3.0G and does not get smaller"),
        "{again}"
    );
    assert!(again.ends_with("done; 0 steps\n"), "{again}");
}
