//! A machine of a test's own, in namespaces: a libvirtd, a network stack, and a disk with the state directory of this one. A test
//! that takes its disk's space or its power does that to nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::{
    TestLab, first_line, in_namespaces, inside, root, state, text, tool, wait_for,
};

/// A loop device; detached when dropped.
pub(crate) struct Loop(pub(crate) String);

impl Loop {
    pub(crate) fn on(file: &Path) -> Self {
        let shown = file.display().to_string();
        Self(
            tool("losetup", &["--find", "--show", &shown])
                .trim()
                .to_owned(),
        )
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).output();
    }
}

/// A machine with such a disk. Its power goes when it is dropped.
pub(crate) struct Machine {
    process: Child,
    first: String,
}

impl Machine {
    pub(crate) fn boot(device: &str, boot: usize) -> Self {
        Self::boot_with(device, boot, &[])
    }

    /// Boots one on which twin's units are installed.
    pub(crate) fn boot_with_units(device: &str, boot: usize) -> Self {
        Self::boot_with(device, boot, &[env!("CARGO_BIN_EXE_twin")])
    }

    fn boot_with(device: &str, boot: usize, units: &[&str]) -> Self {
        let mut process = in_namespaces("machine.sh")
            .arg(device)
            .arg(state())
            .arg(format!("00000000-0000-4000-8000-{boot:012}"))
            .args(units)
            .spawn()
            .unwrap();
        assert_eq!(first_line(&mut process), "ready\n");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let first = std::fs::read_to_string(children).unwrap().trim().to_owned();
        Self { process, first }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = inside(&self.first);
        command
            .args(words)
            .current_dir(root())
            .env("TWIN_YES", "1")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut all = vec![env!("CARGO_BIN_EXE_twin"), "--color", "never"];
        all.extend(words);
        self.command(&all).output().unwrap()
    }

    /// A lab on it.
    pub(crate) fn lab(&self) -> TestLab {
        let mut lab = TestLab::new();
        lab.inside = Some(self.first.clone());
        lab
    }

    /// Runs a verb that has to succeed.
    pub(crate) fn done(&self, what: &str, words: &[&str]) -> String {
        let output = self.run(words);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{what}: {words:?}: {said}");
        said
    }

    pub(crate) fn json(&self, words: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(words);
        let output = self.run(&all);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", text(&output.stderr)))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let first = PathBuf::from("/proc").join(&self.first);
        wait_for("the machine is off", Duration::from_secs(30), || {
            (!first.exists()).then_some(())
        });
    }
}

/// Has twin build what hosts boot and find out what this machine can, on a machine where it has not run before.
fn run_twin_once() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| drop(TestLab::new().done(&["up", "tiny", "--scale", "8"])));
}

/// A disk with an empty XFS, this machine's images and what twin has found out about it.
pub(crate) fn blank_disk(directory: &Path, gib: u64) -> PathBuf {
    run_twin_once();
    let disk = directory.join("disk");
    File::create(&disk).unwrap().set_len(gib << 30).unwrap();
    tool(
        "mkfs.xfs",
        &["-q", "-m", "reflink=1", &disk.display().to_string()],
    );
    let device = Loop::on(&disk);
    let script = "mount -t xfs \"$1\" /mnt && install -d -m 711 /mnt/state /mnt/state/pool && install -d -m 755 /mnt/etc /mnt/libvirt &&
        install -d -m 700 -o libvirt-qemu /mnt/state/pool/ram && cp -r --preserve=mode \"$2/pool/images\" /mnt/state/pool/ &&
        cp --preserve=mode \"$2\"/*.json /mnt/state/ && umount /mnt";
    let here = state().display().to_string();
    tool(
        "unshare",
        &["--mount", "bash", "-ec", script, "bash", &device.0, &here],
    );
    disk
}

/// A machine's disk, on which nothing is written down.
pub(crate) fn plain_machine(gib: u64) -> (tempfile::TempDir, Loop) {
    let directory = on_the_pool();
    let device = Loop::on(&blank_disk(directory.path(), gib));
    (directory, device)
}

/// A directory where files can be shared: each cut is a disk of its own.
pub(crate) fn on_the_pool() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("test-machine-")
        .tempdir_in(state().join("pool"))
        .unwrap()
}
