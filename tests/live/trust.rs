//! Whose is what: copies of marks, disks without a domain, other state directories and URIs, other tools' snapshots.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{TestLab, blank_image, define, restart_libvirtd, text, tool, wait_for};
use crate::turns;

/// Two small hosts with a disk each.
pub(crate) const PAIR: &str = "
schema: twin/topology/v1
name: pair
networks:
  metal: {cidr: 10.99.8.0/24, gateway: 10.99.8.1, mode: nat, dhcp: static}
defaults: {image: micro, vcpus: 1, memory: 1GiB, disk: 4GiB}
hosts:
  a: {nics: [{network: metal, address: 10.99.8.10}]}
  b: {nics: [{network: metal, address: 10.99.8.11}]}
";

/// A lab with a topology of its own, and what a test made beside it.
pub(crate) struct Pair {
    pub(crate) lab: TestLab,
    pub(crate) directory: tempfile::TempDir,
    domains: Vec<String>,
    networks: Vec<String>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::of(TestLab::new())
    }

    pub(crate) fn of(lab: TestLab) -> Self {
        let pair = Self {
            lab,
            directory: tempfile::tempdir().unwrap(),
            domains: Vec::new(),
            networks: Vec::new(),
        };
        pair.write(PAIR);
        pair
    }

    /// One that is up, with a word on a's disk and a baseline `base` of it.
    pub(crate) fn precious() -> Self {
        let pair = Self::new();
        pair.upped(&[]);
        pair.word("a", "precious");
        pair.lab.done(&["snapshot", "base"]);
        pair
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("pair.yaml")
    }

    /// `up` with the topology, and more words.
    fn up<'w>(&self, more: &[&'w str], words: &'w mut Vec<String>) -> Vec<&'w str> {
        *words = vec!["up".into(), self.file().display().to_string()];
        words.extend(["--scale".into(), "16".into()]);
        let own = words.iter().map(String::as_str);
        own.chain(more.iter().copied()).collect()
    }

    pub(crate) fn upped(&self, more: &[&str]) -> String {
        let mut words = Vec::new();
        let arguments = self.up(more, &mut words);
        let output = self.lab.run(&arguments);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        said
    }

    /// `up` that has to end with this code; returns all that it says.
    pub(crate) fn refused(&self, more: &[&str], code: i32) -> String {
        let mut words = Vec::new();
        let arguments = self.up(more, &mut words);
        let output = self.lab.run(&arguments);
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    pub(crate) fn domain(&self, host: &str) -> String {
        format!("{}-{host}", self.lab.name)
    }

    /// The lab's directory.
    pub(crate) fn files(&self) -> PathBuf {
        let status = self.lab.json(&["status"]);
        let uuid = status["uuid"].as_str().unwrap();
        self.lab.state.join("pool/labs").join(uuid)
    }

    /// Defines a copy of a host's domain, as `virt-clone` and an edited `virsh dumpxml` do: with the metadata.
    fn copy_of(&mut self, host: &str, name: &str, disk: &Path) {
        let xml = tool("virsh", &["dumpxml", "--inactive", &self.domain(host)]);
        let (head, rest) = xml.split_once("<uuid>").unwrap();
        let (_, rest) = rest.split_once("</uuid>").unwrap();
        let mut xml = format!("{head}{rest}").replace(
            &format!("<name>{}</name>", self.domain(host)),
            &format!("<name>{name}</name>"),
        );
        let from = format!("/{host}/disk0.qcow2'");
        let at = xml.find(&from).unwrap();
        let begin = xml[..at].rfind('\'').unwrap() + 1;
        xml.replace_range(begin..at + from.len() - 1, &disk.display().to_string());
        for (was, is) in [("guest.sock", "copy.sock"), ("serial.log", "copy.log")] {
            xml = xml.replace(was, is);
        }
        let macs: String = xml
            .lines()
            .filter(|line| !line.contains("<mac address"))
            .collect::<Vec<_>>()
            .join("\n");
        define("define", &macs);
        self.domains.push(name.to_owned());
    }

    pub(crate) fn word(&self, host: &str, word: &str) {
        let line = format!("echo {word} > /var/keep; sync");
        self.lab.done(&["exec", host, "--", "sh", "-c", &line]);
    }

    pub(crate) fn kept(&self, host: &str) -> String {
        let kept = self.lab.done(&["exec", host, "--", "cat", "/var/keep"]);
        kept.trim().to_owned()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let quiet = |arguments: &[&str]| {
            let _ = Command::new("virsh").args(arguments).output();
        };
        for domain in &self.domains {
            quiet(&["destroy", domain]);
            quiet(&["undefine", domain]);
        }
        for network in &self.networks {
            quiet(&["net-undefine", network]);
        }
    }
}

fn all_domains() -> String {
    tool("virsh", &["list", "--all", "--name"])
}

#[test]
fn a1_a_copy_of_a_mark_is_named_and_no_verb_touches_it_or_its_disk() {
    let mut pair = Pair::new();
    pair.upped(&[]);
    pair.lab.done(&["down", "--force"]);
    let files = pair.files();
    // One that shares the lab's disk, and one whose disk virt-clone has put beside it.
    let (sharing, cloned) = (
        format!("mine-{}", pair.lab.name),
        format!("other-{}", pair.lab.name),
    );
    pair.copy_of("a", &sharing, &files.join("a/disk0.qcow2"));
    let beside = files.join("b/disk0-clone.qcow2");
    blank_image(&beside, "4M");
    pair.copy_of("b", &cloned, &beside);
    // A network's definition, edited.
    let network = format!("{}-metal", pair.lab.name);
    let edited = format!("net-{}", pair.lab.name);
    let xml = tool("virsh", &["net-dumpxml", "--inactive", &network]);
    let begin = xml.find("<metadata>").unwrap();
    let end = xml.find("</metadata>").unwrap() + "</metadata>".len();
    let metadata = &xml[begin..end];
    define(
        "net-define",
        &format!("<network><name>{edited}</name>{metadata}<bridge name='twcopy0'/></network>"),
    );
    pair.networks.push(edited.clone());
    let pictures = || {
        let mut all = tool("virsh", &["dumpxml", &sharing]);
        all.push_str(&tool("virsh", &["dumpxml", &cloned]));
        all.push_str(&tool("virsh", &["net-dumpxml", &edited]));
        all
    };
    let before = pictures();

    let status = pair.lab.json(&["status"]);
    assert_eq!(status["hosts"].as_array().unwrap().len(), 2, "{status}");
    let strays: Vec<&str> = status["strays"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stray| stray["name"].as_str().unwrap())
        .collect();
    for name in [&sharing, &cloned, &edited] {
        assert!(strays.contains(&name.as_str()), "{name}: {status}");
    }
    let told = pair.lab.done(&["status"]);
    let line = format!(
        "{sharing} carries a copy of {}'s mark; left alone",
        pair.domain("a")
    );
    assert_eq!(told.matches(&line).count(), 1, "{told}");
    let doctor = pair.lab.json(&["doctor"]);
    assert!(doctor.to_string().contains(&sharing), "{doctor}");

    // The lab still works beside it.
    let said = pair.refused(&["--replace", "a", "--blank", "--dry-run"], 1);
    assert!(
        said.contains(&format!("domain {sharing} uses its disk")),
        "{said}"
    );
    let released = pair.lab.run(&["release", "a"]);
    let said = text(&released.stderr);
    assert_eq!(released.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("domain {sharing} uses its disk")),
        "{said}"
    );
    pair.lab.done(&["power", "on", "b"]);

    // A disk without its domain is not taken up while another domain uses it.
    tool("virsh", &["undefine", &pair.domain("a")]);
    for more in [&[][..], &["--dry-run"]] {
        let said = pair.refused(more, 1);
        assert!(
            said.contains(&format!("domain {sharing} uses its disk")),
            "{more:?}: {said}"
        );
    }

    let destroyed = pair.lab.run(&["destroy"]);
    let said = text(&destroyed.stderr);
    assert_eq!(destroyed.status.code(), Some(0), "{said}");
    assert!(
        said.contains("disk0.qcow2") && said.contains(&sharing),
        "{said}"
    );
    assert!(said.contains("disk0-clone.qcow2"), "{said}");
    assert!(files.join("a/disk0.qcow2").exists() && beside.exists());
    assert!(!files.join("b/disk0.qcow2").exists() && !files.join("lab.json").exists());
    assert_eq!(before, pictures(), "a copy was changed");
    let left = all_domains();
    assert!(
        !left.contains(&pair.domain("a")) && !left.contains(&pair.domain("b")),
        "{left}"
    );
    std::fs::remove_dir_all(&files).unwrap();
}

#[test]
fn a2_a_disk_that_is_there_is_taken_up_again_and_its_baselines_with_it() {
    let pair = Pair::precious();

    // The definition of a host that runs is lost: its process is the lab's all the same.
    tool("virsh", &["undefine", &pair.domain("b")]);
    let said = pair.upped(&[]);
    assert!(
        said.contains("b runs and is not defined any more"),
        "{said}"
    );
    assert!(tool("virsh", &["dominfo", &pair.domain("b")]).contains("Persistent:     yes"));

    // One that is off.
    pair.lab.done(&["down", "--force"]);
    tool("virsh", &["undefine", &pair.domain("a")]);
    let planned = pair.upped(&["--dry-run"]);
    assert!(planned.contains("takes up its disk again"), "{planned}");
    assert!(
        !planned.contains("make disk") && !planned.contains("discard"),
        "{planned}"
    );
    pair.upped(&[]);
    assert_eq!(pair.kept("a"), "precious");

    // All of /etc/libvirt.
    pair.lab.done(&["down", "--force"]);
    for host in ["a", "b"] {
        tool("virsh", &["undefine", &pair.domain(host)]);
    }
    let network = format!("{}-metal", pair.lab.name);
    tool("virsh", &["net-destroy", &network]);
    tool("virsh", &["net-undefine", &network]);
    pair.upped(&[]);
    assert_eq!(pair.kept("a"), "precious");
    pair.word("a", "later");
    pair.lab.done(&["restore", "base"]);
    assert_eq!(pair.kept("a"), "precious");

    // A host that is made anew keeps its disk; one that is to be blank says what goes, and needs a yes.
    pair.upped(&["--replace", "a"]);
    assert_eq!(pair.kept("a"), "precious");
    let mut words = Vec::new();
    let blank = pair.up(&["--replace", "a", "--blank"], &mut words);
    let unasked = pair
        .lab
        .command(&blank)
        .env_remove("TWIN_YES")
        .output()
        .unwrap();
    let said = text(&unasked.stderr);
    assert_eq!(unasked.status.code(), Some(1), "{said}");
    for word in ["a/disk0.qcow2", "baseline base", "--blank --yes"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(
        pair.kept("a"),
        "precious",
        "nothing was changed without a yes"
    );
    pair.upped(&["--replace", "a", "--blank", "--yes"]);
    let gone = pair.lab.run(&["exec", "a", "--", "cat", "/var/keep"]);
    assert_ne!(gone.status.code(), Some(0));
}

#[test]
fn a2_a_file_that_is_no_disk_stands_in_the_way_and_stays() {
    let pair = Pair::new();
    pair.upped(&[]);
    pair.lab.done(&["down", "--force"]);
    let disk = pair.files().join("a/disk0.qcow2");
    tool("virsh", &["undefine", &pair.domain("a")]);
    std::fs::write(&disk, "an operator's notes").unwrap();
    let said = pair.refused(&[], 1);
    assert!(
        said.contains("cannot be its disk") && said.contains("--replace a --blank"),
        "{said}"
    );
    assert_eq!(std::fs::read(&disk).unwrap(), b"an operator's notes");
    // The command that is printed does what it says.
    pair.upped(&["--replace", "a", "--blank", "--yes"]);
    pair.lab.done(&["exec", "a", "--", "true"]);
}

#[test]
fn a6_networks_and_hosts_with_autostart_come_up_with_libvirtd() {
    let _turn = turns::alone();
    let pair = Pair::new();
    pair.write(&format!("{PAIR}policy: {{autostart: true}}\n"));
    pair.upped(&[]);
    let network = format!("{}-metal", pair.lab.name);
    assert!(tool("virsh", &["net-info", &network]).contains("Autostart:      yes"));
    // A boot: nothing runs, and libvirt does not know that it has started things before.
    pair.lab.done(&["down", "--force"]);
    tool("virsh", &["net-destroy", &network]);
    for marker in [
        "/run/libvirt/qemu/autostarted",
        "/run/libvirt/network/autostarted",
    ] {
        let _ = std::fs::remove_file(marker);
    }
    restart_libvirtd();
    wait_for("the hosts run again", Duration::from_secs(60), || {
        let states = ["a", "b"].map(|host| {
            let output = Command::new("virsh")
                .args(["domstate", &pair.domain(host)])
                .output();
            output.is_ok_and(|output| text(&output.stdout).contains("running"))
        });
        (states == [true, true]).then_some(())
    });
    assert!(tool("virsh", &["net-info", &network]).contains("Active:         yes"));
    // Off again by the topology: also for the network that runs.
    pair.write(PAIR);
    pair.upped(&[]);
    assert!(tool("virsh", &["net-info", &network]).contains("Autostart:      no"));
}

#[test]
fn d5_what_removes_or_overwrites_says_what_goes_and_needs_a_yes() {
    let _turn = turns::alone();
    let pair = Pair::new();
    pair.upped(&[]);
    pair.lab.done(&["snapshot", "base"]);
    let verbs: [&[&str]; 6] = [
        &["destroy"],
        &["release", "a"],
        &["restore", "base"],
        &["down"],
        &["down", "--force"],
        &["snapshot", "base", "--remove"],
    ];
    let picture = || {
        let mut all = all_domains();
        all.push_str(&tool("virsh", &["list", "--name"]));
        all.push_str(&pair.lab.json(&["status"])["baselines"].to_string());
        all
    };
    let before = picture();
    for verb in verbs {
        let unasked = |more: &[&str]| {
            let words = [verb, more].concat();
            pair.lab
                .command(&words)
                .env_remove("TWIN_YES")
                .output()
                .unwrap()
        };
        let refused = unasked(&[]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{verb:?}: {said}");
        assert!(
            said.contains("needs a yes") && said.contains("--yes` does it"),
            "{verb:?}: {said}"
        );
        let dry = unasked(&["--dry-run"]);
        assert_eq!(
            dry.status.code(),
            Some(0),
            "{verb:?}: {}",
            text(&dry.stderr)
        );
        let told = text(&dry.stdout);
        let word = match verb[0] {
            "restore" | "snapshot" => "base",
            _ => "a",
        };
        assert!(
            told.contains("would go: ") && told.contains(word),
            "{verb:?}: {told}"
        );
        let document = unasked(&["--dry-run", "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&document.stdout).unwrap();
        assert_eq!(document["dry_run"], true, "{verb:?}: {document}");
        assert_eq!(
            before,
            picture(),
            "{verb:?} changed something without a yes"
        );
    }
    // An answer on a terminal: no, then yes.
    let binary = env!("CARGO_BIN_EXE_twin");
    let asked = |answer: &str| {
        let state = pair.lab.state.display();
        let line = format!(
            "TWIN_YES= {binary} --lab {} --state-dir {state} snapshot base --remove",
            pair.lab.name
        );
        let script = format!(
            "(sleep 1; echo {answer}) | script -qec {} /dev/null",
            quote(&line)
        );
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    let no = asked("n");
    assert!(
        text(&no.stdout).contains("Go on? [y/N]"),
        "{}",
        text(&no.stdout)
    );
    assert_eq!(before, picture());
    let yes = asked("y");
    assert_eq!(yes.status.code(), Some(0), "{}", text(&yes.stdout));
    assert_eq!(
        pair.lab.json(&["status"])["baselines"],
        serde_json::json!([])
    );
    // The flag, where there is no terminal.
    let down = pair
        .lab
        .command(&["down", "--yes"])
        .env_remove("TWIN_YES")
        .output()
        .unwrap();
    assert_eq!(down.status.code(), Some(0), "{}", text(&down.stderr));
    // Nothing is left to go: nothing is asked.
    let again = pair
        .lab
        .command(&["down"])
        .env_remove("TWIN_YES")
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
}

fn quote(line: &str) -> String {
    format!("'{}'", line.replace('\'', r"'\''"))
}

/// This process's umask, which twin inherits.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line.unwrap().trim(), 8).unwrap()
}

#[test]
fn b7_a_copy_to_a_device_or_a_pipe_goes_into_it() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let pair = Pair::new();
    pair.upped(&["--only", "a"]);
    let at = |name: &str| pair.directory.path().join(name);
    let here = |name: &str| at(name).display().to_string();
    // Devices and pipes, here and there.
    tool("mknod", &[&here("null"), "c", "1", "3"]);
    pair.lab.done(&["cp", "a:/etc/hostname", &here("null")]);
    assert!(at("null").metadata().unwrap().file_type().is_char_device());
    assert_eq!(pair.lab.done(&["cp", "a:/etc/hostname", "-"]).trim(), "a");
    let output = pair.lab.done(&["cp", "a:/etc/hostname", "/dev/stdout"]);
    assert_eq!(output.trim(), "a");
    assert!(!Path::new("/dev/stdout").is_file() || Path::new("/dev/stdout").is_symlink());
    std::fs::write(at("f"), "words").unwrap();
    pair.lab.done(&["cp", &here("f"), "a:/dev/null"]);
    pair.lab
        .done(&["exec", "a", "--", "test", "-c", "/dev/null"]);
    // Modes and owners.
    std::fs::set_permissions(at("f"), std::fs::Permissions::from_mode(0o751)).unwrap();
    pair.lab.done(&["cp", &here("f"), "a:/root/f"]);
    let mode = |file: &str| {
        pair.lab
            .done(&["exec", "a", "--", "stat", "-c", "%a %u", file])
    };
    assert_eq!(mode("/root/f").trim(), "751 0");
    pair.lab.done(&[
        "exec",
        "a",
        "--",
        "sh",
        "-c",
        "chmod 604 /root/f; chown 7 /root/f",
    ]);
    pair.lab.done(&["cp", &here("f"), "a:/root/f"]);
    assert_eq!(mode("/root/f").trim(), "604 7");
    pair.lab.done(&["cp", "a:/root/f", &here("new")]);
    // A new file here has what the caller's umask leaves of it.
    assert_eq!(
        at("new").metadata().unwrap().permissions().mode() & 0o777,
        0o604 & !umask()
    );
    // From a stream.
    let mut copy = pair
        .lab
        .command(&["cp", "-", "a:/root/stream"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut copy.stdin.take().unwrap(), &[0, 255, 10]).unwrap();
    assert!(copy.wait().unwrap().success());
    let bytes = pair
        .lab
        .done(&["exec", "a", "--", "od", "-An", "-tu1", "/root/stream"]);
    assert_eq!(
        bytes.split_whitespace().collect::<Vec<_>>(),
        ["0", "255", "10"]
    );
}
