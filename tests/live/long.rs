//! What takes longer than CI has for it: `make test-full PART=live` runs these, `make test` leaves them out by the module's
//! name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::machine::{Machine, plain_machine};
use crate::privacy::with_own_pool;
use crate::space::{DISK_GIB, free_bytes};
use crate::support::{
    OwnImage, TestLab, define, first_line, in_namespaces, qemu_directory, root, state, text, tool,
    wait_for,
};
use crate::trust::{PAIR, Pair};

#[test]
fn a4_one_libvirt_is_one_machine_whatever_the_uri() {
    let pair = Pair::new();
    pair.upped(&[]);
    let uris = [
        "qemu+unix:///system",
        "qemu:///system?socket=/run/libvirt/libvirt-sock",
    ];
    for uri in uris {
        let said = pair.upped(&["--connect", uri, "--dry-run"]);
        assert!(said.contains("0 changes"), "{uri}: {said}");
        let status = pair.lab.json(&["--connect", uri, "status"]);
        assert_eq!(status["hosts"].as_array().unwrap().len(), 2, "{uri}");
    }
    // One lock a lab: a run under one URI keeps a `down` under another out.
    let scenario = pair.directory.path().join("long.yaml");
    std::fs::write(
        &scenario,
        "schema: twin/scenario/v1\nname: long\ntitle: A run that takes a while\n\
         variants: {all: {expect: {gone: never}}}\n\
         probes: [{id: gone, domain-state: {host: a, is: crashed}}]\n\
         steps: [{id: wait, pause: 60s}]\nobserve: 2s\n",
    )
    .unwrap();
    let mut run = pair
        .lab
        .spawn(&["scenario", &scenario.display().to_string()]);
    wait_for("the run has the lab", Duration::from_secs(30), || {
        let output = pair.lab.run(&["--connect", uris[0], "down", "--force"]);
        let said = text(&output.stderr);
        (output.status.code() == Some(4) && said.contains("is being changed by `twin scenario`"))
            .then_some(())
    });
    // What a killed `destroy` of another lab has left goes; that this lab cannot be had is no success.
    let labs = pair.lab.state.join("pool/labs");
    let gone = uuid::Uuid::new_v4().to_string();
    let left = labs.join(format!("{gone}.removing"));
    std::fs::create_dir(&left).unwrap();
    let record = std::fs::read_to_string(pair.files().join("lab.json")).unwrap();
    let own = pair.files();
    let own = own.file_name().unwrap().to_str().unwrap();
    std::fs::write(left.join("lab.json"), record.replace(own, &gone)).unwrap();
    let refused = pair.lab.run(&["destroy"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(
        !left.exists() && said.contains("is being changed by"),
        "{said}"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    run.wait().unwrap();
    assert!(tool("virsh", &["domstate", &pair.domain("a")]).contains("running"));
}

/// A libvirtd of another identity whose socket is on this machine, as one that is forwarded. Killed when dropped.
struct OtherLibvirtd(std::process::Child);

impl OtherLibvirtd {
    fn start(directory: &Path, uuid: &str) -> Self {
        let mut start = in_namespaces("other_libvirtd.sh");
        let mut child = start.arg(directory).arg(uuid).spawn().unwrap();
        assert_eq!(first_line(&mut child), "ready\n");
        Self(child)
    }
}

impl Drop for OtherLibvirtd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a4_on_another_machines_libvirt_what_needs_this_machines_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let uuid = uuid::Uuid::new_v4().to_string();
    let _other = OtherLibvirtd::start(directory.path(), &uuid);
    let uri = format!(
        "qemu+unix:///system?socket={}/libvirt-sock",
        directory.path().display()
    );
    let there = |arguments: &[&str]| tool("virsh", &[&["-c", uri.as_str()], arguments].concat());
    assert!(there(&["capabilities"]).contains(&uuid));

    // A lab of this machine's, of which the other libvirt knows nothing.
    let pair = Pair::new();
    pair.upped(&[]);
    pair.lab.done(&["snapshot", "base"]);
    let before = pair.lab.json(&["status"]);
    let file = pair.file().display().to_string();
    let verbs: &[&[&str]] = &[
        &["up", &file],
        &["up", &file, "--dry-run"],
        &["status"],
        &["down"],
        &["power", "off", "a"],
        &["release", "a"],
        &["snapshot", "two"],
        &["restore", "base"],
        &["snapshot", "base", "--remove"],
        &["scenario", "oom-openstack1"],
        &["exec", "a", "--", "true"],
        &["recover"],
        &["destroy"],
    ];
    for verb in verbs {
        let refused = pair
            .lab
            .run(&[&["--connect", uri.as_str()], *verb].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(4), "{verb:?}: {said}");
        assert!(
            said.contains("is not this machine's libvirt") && said.contains(&uuid),
            "{verb:?}: {said}"
        );
    }
    assert_eq!(there(&["list", "--all", "--name"]).trim(), "");
    assert_eq!(there(&["net-list", "--all", "--name"]).trim(), "");
    let after = pair.lab.json(&["status"]);
    assert_eq!(before["hosts"], after["hosts"]);
    assert_eq!(before["baselines"], after["baselines"]);
}

/// While a question is open, other labs can be made.
#[test]
fn d5_a_question_that_nobody_answers_holds_up_no_other_lab() {
    let pair = Pair::new();
    pair.upped(&[]);
    pair.word("a", "precious");
    let line = format!(
        "TWIN_YES= {} --lab {} --state-dir {} up {} --scale 16 --replace a --blank",
        env!("CARGO_BIN_EXE_twin"),
        pair.lab.name,
        pair.lab.state.display(),
        pair.file().display()
    );
    let mut asking = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = asking.stdout.take().unwrap();
    while !said.contains("Go on? [y/N]") {
        let mut piece = [0; 4096];
        let read = std::io::Read::read(&mut out, &mut piece).unwrap();
        assert!(read > 0, "it ended without a question: {said}");
        said.push_str(&text(&piece[..read]));
    }
    let other = TestLab::new();
    other.done(&["up", "tiny"]);
    other.done(&["destroy"]);
    assert!(
        asking.try_wait().unwrap().is_none(),
        "it waits for its answer"
    );
    std::io::Write::write_all(&mut asking.stdin.take().unwrap(), b"n\n").unwrap();
    assert_ne!(asking.wait().unwrap().code(), Some(0));
    assert_eq!(pair.kept("a"), "precious");
}

/// An attacker who has taken a QEMU over is QEMU's user; root does not write to what they put in the place of the memory file.
#[test]
fn b3_a_link_in_the_place_of_a_memory_file_is_not_followed() {
    let pair = Pair::new();
    pair.upped(&[]);
    pair.lab.done(&["snapshot", "base"]);
    let ram = pair.lab.state.join("pool/ram/libvirt/qemu");
    let suffix = format!("-{}", pair.domain("a"));
    // The directory is another one after each start.
    let memory = || {
        let all = std::fs::read_dir(&ram).unwrap().flatten();
        let mut own = all.filter(|entry| entry.file_name().to_string_lossy().ends_with(&suffix));
        own.next().expect("its directory").path().join("pc.ram")
    };
    let length = std::fs::metadata(memory()).unwrap().len();
    let victim = pair.directory.path().join("victim");
    std::fs::write(&victim, vec![7; 1 << 20]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&victim);
    file.unwrap().set_len(length).unwrap();
    let before = std::fs::read(&victim).unwrap();
    // A link to a file of the right length; a file of the right length that is not the one in use; a pipe; a second name.
    let attacks = [
        "mv \"$1\" \"$1.real\"; ln -s \"$2\" \"$1\"".to_owned(),
        format!("mv \"$1\" \"$1.real\"; truncate -s {length} \"$1\""),
        "mv \"$1\" \"$1.real\"; mkfifo \"$1\"".to_owned(),
        "ln \"$1\" \"$1.second\"".to_owned(),
    ];
    for attack in attacks {
        let (file, victim_path) = (memory().display().to_string(), victim.display().to_string());
        let user = [
            "--reuid=libvirt-qemu",
            "--regid=libvirt-qemu",
            "--clear-groups",
        ];
        let script = ["sh", "-ec", &attack, "sh", &file, &victim_path];
        tool("setpriv", &[&user[..], &script].concat());
        // What is not the file that its process uses is not used: the host is started anew and put back into that.
        let restored = pair.lab.run(&["restore", "base"]);
        let said = text(&restored.stderr);
        assert_eq!(restored.status.code(), Some(0), "{attack}: {said}");
        assert!(said.contains("a was started anew"), "{attack}: {said}");
        assert!(
            before == std::fs::read(&victim).unwrap(),
            "{attack}: root wrote to the victim"
        );
        pair.lab.done(&["exec", "--all", "--", "true"]);
    }
    // And one that nothing was done to is put back in place.
    let restored = pair.lab.run(&["restore", "base"]);
    assert!(
        !text(&restored.stderr).contains("anew"),
        "{}",
        text(&restored.stderr)
    );
}

/// Packages bring scripts, and they run while an image is built.
#[test]
fn b5_an_image_is_built_by_a_user_who_owns_nothing_else() {
    let image = OwnImage::new("built");
    let directory = tempfile::tempdir().unwrap();
    let recipe = std::fs::read_to_string(root().join("images/debian.yaml")).unwrap();
    image.write(
        directory.path(),
        &recipe.replace("name: debian", &image.named()),
    );
    let write = |name: &str, content: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        file.display().to_string()
    };
    let topology = write(
        "built.yaml",
        &format!(
            "schema: twin/topology/v1\nname: built\nnetworks: {{metal: {{cidr: 10.97.8.0/24, gateway: 10.97.8.1, mode: nat, dhcp: static}}}}\n\
             hosts: {{a: {{image: {}, memory: 1GiB, disk: 3GiB, nics: [{{network: metal, address: 10.97.8.10}}]}}}}\n",
            image.name
        ),
    );
    let lab = TestLab::new();
    let mut up = lab.command(&["up", &topology, "--scale", "1", "--timeout", "10m"]);
    let mut up = up.env("XDG_CONFIG_HOME", directory.path()).spawn().unwrap();
    // All that runs for it, with its user.
    let mut seen = std::collections::BTreeSet::<(String, u32)>::new();
    let ended = wait_for("it is up", Duration::from_secs(900), || {
        let mut own = std::collections::BTreeSet::from([up.id()]);
        // A child has a higher number than its parent, but where they have started over.
        for line in tool("ps", &["-eo", "pid=,ppid=,uid=,comm=", "--sort=pid"]).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |index: usize| words[index].parse::<u32>().unwrap();
            if own.contains(&number(1)) {
                own.insert(number(0));
                seen.insert((words[3].to_owned(), number(2)));
            }
        }
        up.try_wait().unwrap()
    });
    assert!(ended.success());
    println!("{seen:?}");
    let built = ["mmdebstrap", "dpkg", "mke2fs"];
    for program in built {
        let user = seen.iter().find(|(name, _)| name == program);
        assert!(
            user.is_some_and(|(_, user)| *user >= 65_536),
            "{program}: {seen:?}"
        );
    }
    // What twin itself is, and what starts the others.
    let twins = [
        "twin", "prlimit", "setsid", "setpriv", "unshare", "cat", "nsenter", "ps",
    ];
    for (name, user) in &seen {
        let is_twins =
            twins.iter().any(|known| name.starts_with(known)) || name.starts_with("tokio");
        assert!(*user != 0 || is_twins, "{name} ran as root");
    }
    let owners = lab.done(&[
        "exec",
        "a",
        "--",
        "stat",
        "-c",
        "%u",
        "/",
        "/etc/fstab",
        "/usr/bin/twin-guest",
    ]);
    assert_eq!(owners, "0\n0\n0\n");
    let drafts = std::fs::read_dir(state().join("pool/images"))
        .unwrap()
        .flatten();
    let drafts = drafts.filter(|entry| entry.file_name().to_string_lossy().starts_with(".draft-"));
    assert_eq!(drafts.count(), 0);
    lab.done(&["destroy"]);
}

/// Another build of QEMU than the one that is installed, from the distribution's packages.
fn other_qemu(directory: &Path) -> PathBuf {
    let all = tool("apt-cache", &["madison", "qemu-system-x86"]);
    let installed = tool("dpkg-query", &["-W", "-f=${Version}", "qemu-system-x86"]);
    let mut versions = all
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim);
    let other = versions.rfind(|version| *version != installed);
    let other = other.unwrap_or_else(|| panic!("there is one version only: {all}"));
    let packages = ["qemu-system-x86", "qemu-system-common"];
    let fetched = Command::new("apt-get")
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages.map(|package| format!("{package}={other}")))
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    let tree = directory.join("tree");
    let files = std::fs::read_dir(directory).unwrap().flatten();
    for file in files.map(|entry| entry.path()) {
        if file.extension().is_some_and(|kind| kind == "deb") {
            let unpack = [
                "-x",
                &file.display().to_string(),
                &tree.display().to_string(),
            ];
            tool("dpkg-deb", &unpack);
        }
    }
    // It finds its modules and firmware by where it is itself.
    std::fs::create_dir_all(tree.join("usr/share")).unwrap();
    for name in ["qemu", "seabios", "ovmf"] {
        let place = tree.join("usr/share").join(name);
        let _ = std::fs::remove_dir_all(&place);
        std::os::unix::fs::symlink(Path::new("/usr/share").join(name), place).unwrap();
    }
    tree.join("usr/bin/qemu-system-x86_64")
}

#[test]
fn d4_baselines_of_an_older_qemu_are_named_and_the_others_restore() {
    let directory = qemu_directory("qemu");
    let program = other_qemu(directory.path());
    let pair = Pair::new();
    pair.upped(&[]);
    pair.lab.done(&["down", "--force"]);
    let domain = pair.domain("a");
    let xml = tool("virsh", &["dumpxml", "--inactive", &domain]);
    let own = "<emulator>/usr/bin/qemu-system-x86_64</emulator>";
    let other = format!("<emulator>{}</emulator>", program.display());
    assert!(xml.contains(own), "{xml}");
    define("define", &xml.replace(own, &other));
    pair.upped(&[]);
    pair.word("a", "old");
    pair.lab.done(&["snapshot", "old"]);

    // The upgrade: the program is another, and the process is the old one. What it saved it loads.
    for part in [
        "usr/bin/qemu-system-x86_64",
        "usr/lib/x86_64-linux-gnu/qemu",
    ] {
        let place = directory.path().join("tree").join(part);
        let old = place.with_extension("old");
        std::fs::rename(&place, &old).unwrap();
        let new = Path::new("/").join(part).display().to_string();
        let place = place.display().to_string();
        tool("cp", &["-r", "--preserve=mode", &new, &place]);
    }
    assert!(!pair.lab.done(&["snapshots"]).contains("needs another QEMU"));
    pair.word("a", "later");
    pair.lab.done(&["restore", "old"]);
    assert_eq!(pair.kept("a"), "old");

    // A process of the new one.
    pair.lab.done(&["power", "cycle", "a"]);
    pair.upped(&[]);
    pair.lab.done(&["snapshot", "new"]);
    let listed = pair.lab.json(&["snapshots"]);
    let needs = |name: &str| {
        let all = listed["baselines"].as_array().unwrap();
        let one = all.iter().find(|one| one["name"] == name).unwrap();
        one["needs_emulator"].clone()
    };
    assert!(
        needs("old").as_str().is_some_and(|why| why.contains("a: ")),
        "{listed}"
    );
    assert!(needs("new").is_null(), "{listed}");
    let doctor = pair.lab.json(&["doctor"]).to_string();
    assert!(
        doctor.contains(&format!("old of {}", pair.lab.name)),
        "{doctor}"
    );
    pair.lab.done(&["restore", "new"]);
    let refused = pair.lab.run(&["restore", "old"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(
        said.contains("--force") && said.contains("nothing was stopped"),
        "{said}"
    );
    pair.word("a", "newer");
    pair.lab.done(&["restore", "old", "--force"]);
    assert_eq!(pair.kept("a"), "old");
}

#[test]
fn d3_a_guest_that_qemu_paused_for_want_of_space_goes_on_once_there_is_some() {
    let (_directory, device) = plain_machine(DISK_GIB);
    let machine = Machine::boot(&device.0, 0);
    let pair = Pair::of(machine.lab());
    // Memory is not in the pool: only the disk is short of space.
    pair.write(&PAIR.replace("disk: 4GiB}", "disk: 4GiB, ram: anon}"));
    pair.upped(&["--only", "a"]);
    let pool = pair.lab.pool();
    let filler = tempfile::NamedTempFile::new_in(&pool).unwrap();
    let bytes = free_bytes(&pool) - (6 << 20);
    let filled = filler.path().display().to_string();
    tool("fallocate", &["-l", &bytes.to_string(), &filled]);
    // It writes on without the session that started it: that one ends when the host is paused.
    let write = "(dd if=/dev/urandom of=/var/big bs=1M count=48; sync; touch /run/written) >/dev/null 2>&1 &";
    let mut starts = pair
        .lab
        .spawn(&["exec", "a", "--", "setsid", "sh", "-c", write]);
    let domain = pair.domain("a");
    wait_for("QEMU pauses it", Duration::from_secs(60), || {
        pair.lab
            .tool("virsh", &["domstate", "--reason", &domain])
            .contains("I/O error")
            .then_some(())
    });
    let said = pair.refused(&["--only", "a"], 1);
    assert!(
        said.contains("could not be written") && said.contains("twin power resume a"),
        "{said}"
    );
    // What little there still is may let it go on for a moment.
    wait_for(
        "it is paused again at once",
        Duration::from_secs(60),
        || {
            let full = pair.lab.run(&["power", "resume", "a"]);
            let said = text(&full.stderr);
            (full.status.code() == Some(4) && said.contains("free space")).then_some(())
        },
    );
    drop(filler);
    pair.lab.done(&["power", "resume", "a"]);
    starts.wait().unwrap();
    let size = ["sh", "-c", "test -e /run/written && stat -c %s /var/big"];
    let bytes = wait_for("it writes on", Duration::from_secs(120), || {
        let stat = pair
            .lab
            .run(&[&["exec", "a", "--"][..], &size[..]].concat());
        if !stat.status.success() {
            let state = pair.lab.tool("virsh", &["domstate", "--reason", &domain]);
            println!("{}, {}: {}", state.trim(), stat.status, text(&stat.stderr));
        }
        stat.status.success().then(|| text(&stat.stdout))
    });
    assert_eq!(bytes.trim(), (48u64 << 20).to_string());
    // One that is paused by hand goes on too, and is not taken for one that is off.
    pair.lab.tool("virsh", &["suspend", &domain]);
    let on = pair.lab.run(&["power", "on", "a"]);
    assert_eq!(on.status.code(), Some(1), "{}", text(&on.stderr));
    assert!(
        text(&on.stderr).contains("twin power resume a"),
        "{}",
        text(&on.stderr)
    );
    pair.lab.done(&["power", "resume", "a"]);
    pair.lab.done(&["exec", "a", "--", "true"]);
}

/// The tree that the labs of `a_lab_of_the_tree_before_is_kept` are made by.
const BEFORE: &str = "a0fc3f6";

/// twin as it was at `BEFORE`, built in the target directory once.
fn twin_before() -> PathBuf {
    let place = root().join("target/before");
    let twin = place.join("target/debug/twin");
    if !twin.exists() {
        let build = format!(
            "mkdir -p target/before && git archive {BEFORE} | tar -x -C target/before && cd target/before && \
             cargo build --locked && make guest-dev"
        );
        let built = Command::new("bash")
            .args(["-o", "pipefail", "-ec", &build])
            .current_dir(root())
            .env_remove("CARGO_TARGET_DIR")
            .status()
            .unwrap();
        assert!(built.success(), "{BEFORE} could not be built");
    }
    twin
}

#[test]
fn a_lab_of_the_tree_before_is_kept() {
    let twin = twin_before();
    // It cannot read this machine's journal any more.
    let (_directory, lab) = with_own_pool("before");
    let pair = Pair::of(lab);
    let old = |arguments: &[&str]| {
        let output = Command::new(&twin)
            .args(["--color", "never", "--lab", &pair.lab.name, "--state-dir"])
            .arg(&pair.lab.state)
            .args(arguments)
            .current_dir(root().join("target/before"))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    let topology = pair.directory.path().join("pair.yaml");
    let topology = topology.display().to_string();
    old(&["up", &topology, "--scale", "16"]);
    pair.word("a", "old");
    old(&["snapshot", "base"]);
    pair.word("a", "later");

    let status = pair.lab.json(&["status"]);
    let hosts = status["hosts"].as_array().unwrap();
    assert!(
        hosts.iter().all(|host| host["power"] == "running"),
        "{status}"
    );
    assert_eq!(hosts.len(), 2, "{status}");
    pair.lab.done(&["snapshot", "base", "--verify"]);
    pair.lab.done(&["restore", "base"]);
    assert_eq!(pair.kept("a"), "old");
    pair.lab.done(&["recover"]);

    // What differs says what it takes, and takes no disk.
    let said = pair.upped(&["--dry-run"]);
    assert!(
        !said.contains("make disk") && !said.contains("blank"),
        "{said}"
    );
    // Disks that are not flushed are named, with what changes them.
    let unflushed = |said: &str| said.contains("cache=unsafe") && said.contains("`twin down`");
    assert!(unflushed(&said), "{said}");
    pair.upped(&[]);
    assert_eq!(pair.kept("a"), "old");
    // What runs goes on; what `up` cannot do to a running host is in force after it was off.
    pair.lab.done(&["down"]);
    pair.upped(&[]);
    assert_eq!(pair.kept("a"), "old");
    let said = pair.upped(&["--dry-run"]);
    assert!(said.contains("0 changes") && !unflushed(&said), "{said}");
    let definition = tool("virsh", &["dumpxml", &format!("{}-a", pair.lab.name)]);
    assert!(definition.contains("cache='writeback'"), "{definition}");
    pair.lab.done(&["destroy"]);
    assert_eq!(pair.lab.traces(), Vec::<String>::new());
}

#[test]
fn a3_another_state_directory_follows_the_mark_and_makes_nothing() {
    let pair = Pair::precious();
    let other = qemu_directory("other-state");
    let elsewhere = TestLab::named(pair.lab.name.clone(), other.path().join("state"));
    let file = pair.file().display().to_string();
    let up = ["up", file.as_str(), "--scale", "16"];
    // While they run, and while they are off.
    for down in [false, true] {
        if down {
            elsewhere.done(&["down"]);
        }
        let output = elsewhere.run(&up);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.contains(&pair.lab.state.display().to_string()),
            "{said}"
        );
        assert_eq!(pair.kept("a"), "precious");
    }
    assert!(elsewhere.done(&["snapshots"]).contains("base"));
    elsewhere.done(&["restore", "base"]);
    assert!(
        !elsewhere.state.exists(),
        "nothing is made in the other one"
    );

    // What a run has left is the lab's, wherever it is asked for.
    let scenario = pair.directory.path().join("down.yaml");
    std::fs::write(
        &scenario,
        "schema: twin/scenario/v1\nname: down\ntitle: An interface that stays down\n\
         variants: {all: {expect: {gone: never}}}\n\
         probes: [{id: gone, domain-state: {host: a, is: crashed}}]\n\
         steps: [{id: off, do: {nic-link: {host: a, network: metal}}}]\nobserve: 1s\n",
    )
    .unwrap();
    let scenario = scenario.display().to_string();
    let kept = pair
        .lab
        .run(&["scenario", &scenario, "--variant", "all", "--keep"]);
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept.stderr));
    let status = elsewhere.json(&["status"]);
    assert_eq!(status["dirty"], true, "{status}");
    assert!(elsewhere.done(&["runs"]).contains("down"));
    assert!(!elsewhere.done(&["report"]).is_empty());
    let refused = elsewhere.run(&["scenario", &scenario, "--variant", "all"]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
    let recovered = elsewhere.done(&["recover"]);
    assert!(recovered.contains("off"), "{recovered}");
    assert_eq!(pair.lab.json(&["status"])["dirty"], false);

    // A halt stops the lab's runs, wherever it is said.
    elsewhere.done(&["halt"]);
    let halted = pair.lab.run(&["scenario", &scenario, "--variant", "all"]);
    assert_eq!(halted.status.code(), Some(4), "{}", text(&halted.stderr));
    elsewhere.done(&["halt", "--lift"]);
    pair.lab.done(&["scenario", &scenario, "--variant", "all"]);
    elsewhere.done(&["destroy"]);
    assert_eq!(pair.lab.traces(), Vec::<String>::new());
    assert!(!elsewhere.state.exists());
}

#[test]
fn a5_a_disk_that_another_tool_has_moved_is_refused_and_a_size_is_carried_out_or_refused() {
    let pair = Pair::precious();
    pair.lab.done(&["down", "--force"]);
    let files = pair.files();
    let overlay = files.join("a/disk0.snap1");
    let domain = pair.domain("a");
    let spec = format!("vda,file={}", overlay.display());
    tool(
        "virsh",
        &[
            "snapshot-create-as",
            &domain,
            "s1",
            "--disk-only",
            "--diskspec",
            &spec,
        ],
    );
    let disks = || {
        let qcow2 = files.join("a/disk0.qcow2");
        (
            std::fs::read(&qcow2).unwrap().len(),
            tool("virsh", &["domblklist", &domain]),
        )
    };
    let before = disks();
    for refused in [&["release", "a"][..], &["restore", "base"]] {
        let output = pair.lab.run(refused);
        let said = text(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 4)),
            "{refused:?}: {said}"
        );
        assert!(said.contains("disk0.snap1"), "{refused:?}: {said}");
    }
    let said = pair.refused(&["--replace", "a", "--blank", "--yes"], 1);
    assert!(said.contains("disk0.snap1"), "{said}");
    assert_eq!(before, disks(), "something was changed");
    // It starts as it is, and once the snapshot is merged all works again.
    pair.upped(&[]);
    assert_eq!(pair.kept("a"), "precious");
    tool(
        "virsh",
        &[
            "blockcommit",
            &domain,
            "vda",
            "--active",
            "--pivot",
            "--wait",
        ],
    );
    tool("virsh", &["snapshot-delete", &domain, "s1", "--metadata"]);
    pair.lab.done(&["restore", "base"]);
    assert_eq!(pair.kept("a"), "precious");

    // A larger disk: not while a baseline is in it, then for real, and never smaller again.
    pair.lab.done(&["down", "--force"]);
    pair.write(&PAIR.replace("disk: 4GiB", "disk: 8GiB"));
    let said = pair.refused(&[], 1);
    assert!(said.contains("baselines are in it"), "{said}");
    pair.lab.done(&["snapshot", "base", "--remove"]);
    let said = pair.upped(&[]);
    assert!(said.contains("grow disk"), "{said}");
    let bytes = pair
        .lab
        .done(&["exec", "a", "--", "cat", "/sys/class/block/vda/size"]);
    assert_eq!(
        bytes.trim().parse::<u64>().unwrap() * 512,
        512 << 20,
        "8 GiB at scale 16"
    );
    assert_eq!(pair.kept("a"), "precious");
    pair.lab.done(&["down", "--force"]);
    pair.write(PAIR);
    let said = pair.refused(&[], 1);
    assert!(said.contains("never made smaller"), "{said}");
}

#[test]
fn d3_verbs_say_that_a_lab_is_dirty_and_refuse_what_makes_it_worse() {
    let pair = Pair::new();
    pair.upped(&[]);
    pair.word("a", "precious");
    let scenario = pair.directory.path().join("kept.yaml");
    let keep = |step: &str| {
        std::fs::write(
            &scenario,
            format!(
                "schema: twin/scenario/v1\nname: kept\ntitle: A fault that stays\nvariants: {{all: {{expect: {{gone: never}}}}}}\n\
                 probes: [{{id: gone, domain-state: {{host: b, is: crashed}}}}]\nsteps: [{{id: fault, do: {{{step}}}}}]\nobserve: 1s\n"
            ),
        )
        .unwrap();
        let run = pair.lab.run(&[
            "scenario",
            &scenario.display().to_string(),
            "--variant",
            "all",
            "--keep",
        ]);
        assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    };
    keep("nic-link: {host: a, network: metal}");
    for verb in [&["power", "off", "b"][..], &["power", "on", "b"]] {
        let output = pair.lab.run(verb);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {said}");
        assert!(
            said.contains("DIRTY: fault of run") && said.contains("DIRTY means here"),
            "{said}"
        );
    }
    assert!(pair.upped(&[]).contains("DIRTY: fault of run"));
    pair.lab.done(&["recover"]);

    // The hosts have other disks: what boots would write to them, and what is wiped would be the wrong ones.
    keep("host-release: {host: a}");
    for verb in [&["power", "on", "a"][..], &["release", "a"]] {
        let output = pair.lab.run(verb);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{verb:?}: {said}");
        assert!(said.contains("twin recover"), "{said}");
    }
    let said = pair.refused(&[], 5);
    assert!(said.contains("twin recover"), "{said}");
    pair.lab.done(&["recover"]);
    pair.upped(&[]);
    assert_eq!(pair.kept("a"), "precious");
}
