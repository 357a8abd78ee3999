//! Hosts that do not run, hosts with more than one disk, firmware that remembers, and what cannot be captured; and a file
//! system without reflink.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::baselines::baselines;
use crate::support::{TestLab, state, text, tool, wait_for};

const TOPOLOGY: &str = "schema: twin/topology/v1
name: states
networks: {n: {cidr: 10.79.4.0/24, gateway: 10.79.4.1, mode: nat, dhcp: static}}
defaults: {memory: 256MiB, disk: 1GiB, vcpus: 1}
hosts:
  run: {nics: [{network: n, address: 10.79.4.10}]}
  off: {nics: [{network: n, address: 10.79.4.11}]}
  still: {nics: [{network: n, address: 10.79.4.12}]}
  dead: {nics: [{network: n, address: 10.79.4.13}]}
  many: {disks: [1GiB, 2GiB], nics: [{network: n, address: 10.79.4.14}]}
";

fn power(lab: &TestLab, host: &str) -> String {
    let status = lab.json(&["status"]);
    let hosts = status["hosts"].as_array().unwrap();
    let host = hosts.iter().find(|known| known["name"] == host).unwrap();
    host["power"].as_str().unwrap().to_owned()
}

fn powers(lab: &TestLab) -> Vec<String> {
    ["dead", "many", "off", "run", "still"]
        .iter()
        .map(|host| power(lab, host))
        .collect()
}

fn answers(lab: &TestLab, host: &str) {
    wait_for("the guest answers", Duration::from_secs(90), || {
        lab.run(&["exec", host, "--", "true"])
            .status
            .success()
            .then_some(())
    });
}

/// A lab in a state directory of its own.
fn lab_in(directory: &Path) -> TestLab {
    let mut lab = TestLab::new();
    directory.clone_into(&mut lab.state);
    let file = directory.join("states.yaml");
    std::fs::write(&file, TOPOLOGY).unwrap();
    lab.done(&["up", &file.display().to_string(), "--scale", "1"]);
    lab
}

/// Brings the hosts into states of all kinds.
fn into_states(lab: &TestLab) {
    let domain = |host: &str| format!("{}-{host}", lab.name);
    for host in ["run", "off", "many"] {
        lab.sh(host, "echo cut > /var/word; sync");
    }
    for disk in ["vdb", "vdc"] {
        lab.sh(
            "many",
            &format!(
                "echo cut-{disk} | dd of=/dev/{disk} bs=512 count=1 conv=sync 2>/dev/null; sync"
            ),
        );
    }
    tool("virsh", &["destroy", &domain("off")]);
    tool("virsh", &["suspend", &domain("still")]);
    // The call ends before the panic, which would leave it without an answer.
    lab.sh(
        "dead",
        "setsid sh -c 'sleep 1; echo c > /proc/sysrq-trigger' >/dev/null 2>&1 &",
    );
    wait_for("the panic is seen", Duration::from_secs(60), || {
        (power(lab, "dead") == "crashed").then_some(())
    });
}

/// Changes all that the baseline has.
fn into_others(lab: &TestLab) {
    let domain = |host: &str| format!("{}-{host}", lab.name);
    lab.sh("run", "echo later > /var/word; sync");
    for disk in ["vdb", "vdc"] {
        lab.sh(
            "many",
            &format!("echo later | dd of=/dev/{disk} bs=512 count=1 conv=sync 2>/dev/null; sync"),
        );
    }
    tool("virsh", &["start", &domain("off")]);
    tool("virsh", &["resume", &domain("still")]);
    tool("virsh", &["destroy", &domain("dead")]);
    tool("virsh", &["start", &domain("dead")]);
    tool("virsh", &["destroy", &domain("many")]);
    answers(lab, "off");
    lab.sh("off", "echo later > /var/word; sync");
    // As libvirt-guests does it when a machine is shut down: memory that goes on with disks of later.
    tool("virsh", &["managedsave", &domain("off")]);
}

fn all_is_as_at_the_cut(lab: &TestLab) {
    assert_eq!(
        powers(lab),
        ["crashed", "running", "shut-off", "running", "paused"]
    );
    assert_eq!(lab.sh("run", "cat /var/word"), "cut\n");
    for disk in ["vdb", "vdc"] {
        let read = lab.sh(
            "many",
            &format!("dd if=/dev/{disk} bs=512 count=1 2>/dev/null | head -1"),
        );
        assert_eq!(read, format!("cut-{disk}\n"));
    }
}

#[test]
fn hosts_in_all_states_come_back_as_they_were() {
    let directory = crate::support::qemu_directory("states");
    // Its own file system is the state directory's.
    let lab = lab_in_shared(&directory);
    into_states(&lab);
    let created = lab.json(&["snapshot", "cut"]);
    assert_eq!(created["rung"], "reflink", "{created}");
    all_is_as_at_the_cut(&lab);
    into_others(&lab);
    lab.done(&["restore", "cut"]);
    all_is_as_at_the_cut(&lab);
    memory_is_the_golden_files(&lab, "still");
    // Once more from memory that differs here and there.
    tool("virsh", &["resume", &format!("{}-still", lab.name)]);
    answers(&lab, "still");
    lab.sh(
        "still",
        "dd if=/dev/urandom of=/run/more bs=1M count=24 2>/dev/null",
    );
    lab.done(&["restore", "cut"]);
    all_is_as_at_the_cut(&lab);
    memory_is_the_golden_files(&lab, "still");
    // Processes that were started since the cut are as good as those of then.
    let again = lab.json(&["restore", "cut"]);
    for host in again["hosts"].as_array().unwrap() {
        assert_eq!(host["restarted"], serde_json::Value::Null, "{again}");
    }
    all_is_as_at_the_cut(&lab);
    tool("virsh", &["resume", &format!("{}-still", lab.name)]);
    answers(&lab, "still");
    lab.done(&["power", "on", "off"]);
    answers(&lab, "off");
    assert_eq!(lab.sh("off", "cat /var/word"), "cut\n");
    lab.done(&["snapshot", "cut", "--verify"]);
    what_cannot_be_captured_is_refused(&lab, directory.path());
    firmware_remembers(&lab, directory.path());
}

/// Compares the memory of a host that stands still with what was captured of it, byte by byte.
fn memory_is_the_golden_files(lab: &TestLab, host: &str) {
    let folder = lab.state.join("pool/ram/libvirt/qemu");
    let name = format!("-{}-{host}", lab.name);
    let mut folders = std::fs::read_dir(folder).unwrap().flatten();
    let own = folders.find(|entry| entry.file_name().to_string_lossy().ends_with(&name));
    let live = own.unwrap().path().join("pc.ram");
    let golden = baselines(lab).join("cut").join(format!("{host}.ram"));
    let paths = [&live, &golden].map(|path| path.display().to_string());
    assert!(std::fs::metadata(&live).unwrap().blocks() > 0);
    tool("cmp", &[&paths[0], &paths[1]]);
}

fn lab_in_shared(directory: &tempfile::TempDir) -> TestLab {
    let lab = TestLab::new();
    let file = directory.path().join("states.yaml");
    std::fs::write(&file, TOPOLOGY).unwrap();
    lab.done(&["up", &file.display().to_string(), "--scale", "1"]);
    lab
}

/// Changes a host's definition; it is off before and on after.
fn redefine(lab: &TestLab, host: &str, directory: &Path, change: impl Fn(String) -> String) {
    let domain = format!("{}-{host}", lab.name);
    let xml = change(tool("virsh", &["dumpxml", "--inactive", &domain]));
    let file = directory.join("domain.xml");
    std::fs::write(&file, xml).unwrap();
    tool("virsh", &["destroy", &domain]);
    tool("virsh", &["define", &file.display().to_string()]);
    tool("virsh", &["start", &domain]);
    answers(lab, host);
}

fn what_cannot_be_captured_is_refused(lab: &TestLab, directory: &Path) {
    let refused = |why: &str| {
        let before = powers(lab);
        let output = lab.run(&["snapshot", "no"]);
        let said = text(&output.stderr);
        assert!(
            output.status.code() == Some(4) && said.contains(why),
            "{why}: {said}"
        );
        assert_eq!(powers(lab), before, "nothing was stopped");
        assert!(!lab.done(&["snapshots"]).contains("no "));
    };
    let still = format!("{}-still", lab.name);
    tool("virsh", &["managedsave", &still]);
    refused("managed save");
    lab.done(&["power", "on", "still"]);
    answers(lab, "still");
    let raw = directory.join("disk.raw");
    std::fs::File::create(&raw)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let domain = format!("{}-run", lab.name);
    tool(
        "virsh",
        &[
            "attach-disk",
            &domain,
            &raw.display().to_string(),
            "vdx",
            "--subdriver",
            "raw",
        ],
    );
    refused("vdx is raw");
    tool("virsh", &["detach-disk", &domain, "vdx"]);
    wait_for("the disk is gone", Duration::from_secs(30), || {
        (!tool("virsh", &["dumpxml", &domain]).contains("vdx")).then_some(())
    });
    let original = tool("virsh", &["dumpxml", "--inactive", &domain]);
    redefine(lab, "run", directory, |xml| {
        let share = "<filesystem type='mount' accessmode='mapped'><source dir='/usr/share/doc'/><target dir='doc'/></filesystem>";
        xml.replace("</devices>", &format!("{share}</devices>"))
    });
    refused("filesystem");
    redefine(lab, "run", directory, |_| original.clone());
}

/// A guest with UEFI: its variable store takes no snapshot, and comes back all the same.
fn firmware_remembers(lab: &TestLab, directory: &Path) {
    let code = Path::new("/usr/share/OVMF/OVMF_CODE.fd");
    assert!(code.exists(), "scripts/host-setup.sh --build installs ovmf");
    let nvram = directory.join("run_VARS.fd");
    redefine(lab, "run", directory, |xml| {
        let firmware = format!(
            "<loader readonly='yes' type='pflash'>{}</loader><nvram template='/usr/share/OVMF/OVMF_VARS.fd'>{}</nvram>",
            code.display(),
            nvram.display()
        );
        xml.replace("</type>", &format!("</type>{firmware}"))
    });
    lab.sh("run", "echo cut > /run/word");
    let before = std::fs::read(&nvram).unwrap();
    lab.done(&["snapshot", "uefi"]);
    lab.sh("run", "echo later > /run/word");
    lab.done(&["restore", "uefi"]);
    assert_eq!(lab.sh("run", "cat /run/word"), "cut\n");
    // Its process gone and its store overwritten.
    tool("virsh", &["destroy", &format!("{}-run", lab.name)]);
    std::fs::write(&nvram, vec![0xff; before.len()]).unwrap();
    lab.done(&["restore", "uefi"]);
    assert_eq!(lab.sh("run", "cat /run/word"), "cut\n");
    assert_eq!(std::fs::read(&nvram).unwrap(), before);
    lab.done(&["snapshot", "uefi", "--verify"]);
    // Off, its store is all that there is of its variables.
    tool("virsh", &["destroy", &format!("{}-run", lab.name)]);
    lab.done(&["snapshot", "uefi-off"]);
    std::fs::write(&nvram, vec![0xff; before.len()]).unwrap();
    lab.done(&["restore", "uefi-off"]);
    assert_eq!(std::fs::read(&nvram).unwrap(), before);
    assert_eq!(power(lab, "run"), "shut-off");
}

#[test]
fn without_reflink_memory_is_copied_and_it_is_said() {
    // Beside the pool, on the machine's own file system.
    let directory = tempfile::Builder::new()
        .prefix("twin-copy-")
        .tempdir_in("/var/lib")
        .unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    std::fs::create_dir(directory.path().join("pool")).unwrap();
    std::os::unix::fs::symlink(
        state().join("pool/images"),
        directory.path().join("pool/images"),
    )
    .unwrap();
    if reflinks(directory.path()) {
        println!(
            "copy rung: {} can reflink; --mode copy is tried instead",
            directory.path().display()
        );
    }
    let lab = lab_in(directory.path());
    into_states(&lab);
    let arguments: &[&str] = if reflinks(directory.path()) {
        &["snapshot", "cut", "--mode", "copy"]
    } else {
        &["snapshot", "cut"]
    };
    let created = lab.json(arguments);
    assert_eq!(created["rung"], "copy", "{created}");
    assert!(
        !created["reasons"].as_array().unwrap().is_empty(),
        "{created}"
    );
    all_is_as_at_the_cut(&lab);
    into_others(&lab);
    lab.done(&["restore", "cut"]);
    all_is_as_at_the_cut(&lab);
    lab.done(&["restore", "cut"]);
    all_is_as_at_the_cut(&lab);
    lab.done(&["snapshot", "cut", "--verify"]);
    // Memory as a stream in the disks' files.
    let streamed = lab.json(&["snapshot", "stream", "--mode", "stream"]);
    assert_eq!(streamed["rung"], "stream", "{streamed}");
    lab.sh("run", "echo later > /run/word");
    lab.done(&["restore", "stream"]);
    assert_eq!(
        lab.run(&["exec", "run", "--", "cat", "/run/word"])
            .status
            .code(),
        Some(1)
    );
    lab.done(&["snapshot", "cut", "--remove"]);
    lab.done(&["snapshot", "stream", "--verify"]);
    // Only disks, of hosts that are off.
    assert_eq!(
        lab.run(&["snapshot", "disks", "--mode", "disks"])
            .status
            .code(),
        Some(4)
    );
    lab.done(&["down", "--force"]);
    let disks = lab.json(&["snapshot", "disks"]);
    assert_eq!(disks["rung"], "disks", "{disks}");
    lab.done(&["restore", "stream"]);
    answers(&lab, "run");
    lab.sh("run", "echo later > /var/word; sync");
    lab.done(&["restore", "disks"]);
    assert!(powers(&lab).iter().all(|power| power == "shut-off"));
    lab.done(&["power", "on", "run"]);
    answers(&lab, "run");
    assert_eq!(lab.sh("run", "cat /var/word"), "cut\n");
}

/// Whether a directory's file system shares blocks.
fn reflinks(directory: &Path) -> bool {
    let (from, to) = (directory.join("states.yaml"), directory.join("clone"));
    std::fs::write(&from, TOPOLOGY).unwrap();
    let cloned = std::process::Command::new("cp")
        .args(["--reflink=always"])
        .args([&from, &to])
        .output()
        .unwrap();
    cloned.status.success()
}
