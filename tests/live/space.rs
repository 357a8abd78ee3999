//! A pool that runs full: told before it happens, and nothing is lost where it does.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::machine::{Machine, plain_machine};
use crate::support::{TestLab, text, tool, wait_for};

/// A disk on which two hosts and their baselines have room.
pub(crate) const DISK_GIB: u64 = 6;

/// MiB that a file system takes for itself as it fills.
const LITTLE: u64 = 64;

/// Takes the pool's space; gives it back when dropped.
pub(crate) struct Filled(PathBuf);

impl Filled {
    /// Leaves so many MiB. Of this machine's own pool only where no other lab's guests have their memory in it: they die where
    /// there is no space for what they write.
    pub(crate) fn leaving(lab: &TestLab, mib: u64) -> Self {
        let others = others_in_memory(lab);
        assert!(others.is_empty(), "switch these off first: {others:?}");
        let pool = lab.pool();
        let filled = Self(pool.join(format!("filled-{}", std::process::id())));
        let length = free_bytes(&pool).saturating_sub(mib.max(LITTLE) << 20);
        let file = filled.0.display().to_string();
        tool("fallocate", &["-l", &length.to_string(), &file]);
        let open = std::fs::OpenOptions::new().append(true).open(&filled.0);
        let mut end = open.unwrap();
        let mut write = |bytes: usize| {
            let written = end.write_all(&vec![1; bytes]);
            written.and_then(|()| end.sync_data()).is_ok()
        };
        while free_bytes(&pool) > mib << 20 && write(1 << 20) {}
        while mib == 0 && write(4096) {}
        filled
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Guests of other labs whose memory is in the pool.
fn others_in_memory(lab: &TestLab) -> Vec<String> {
    let guests = std::fs::read_dir(lab.pool().join("ram/libvirt/qemu"));
    let guests = guests.into_iter().flatten().flatten();
    let own = format!("-{}-", lab.name);
    guests
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|guest| !guest.contains(&own))
        .collect()
}

pub(crate) fn free_bytes(pool: &std::path::Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(pool).unwrap();
    found.blocks_available() * found.fragment_size()
}

/// A twin that stands at a point of its journal; it has the lab's lock, and is killed where the test fails meanwhile.
pub(crate) struct Stopped(Option<Child>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a verb that stops at a point of the journal, and waits until it has.
pub(crate) fn stopped_at(lab: &TestLab, arguments: &[&str], point: u64) -> Stopped {
    let child = lab
        .command(arguments)
        .env("TWIN_STOP_AT", point.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let stopped = Stopped(Some(child));
    wait_for("it stops", Duration::from_secs(60), || {
        let status = std::fs::read_to_string(&status).ok()?;
        let state = status.lines().find(|line| line.starts_with("State:"))?;
        // Past its last point it ends.
        (state.contains("T (") || state.contains("Z (")).then_some(())
    });
    stopped
}

/// Lets it go on; returns how it ended and what it said.
pub(crate) fn go_on(mut stopped: Stopped) -> (Option<i32>, String) {
    let child = stopped.0.take().unwrap();
    // One that has ended already is as good.
    let _ = std::process::Command::new("kill")
        .args(["-CONT", &child.id().to_string()])
        .output();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), None, "{}", text(&output.stderr));
    (output.status.code(), text(&output.stderr))
}

fn write(lab: &TestLab, word: &str) {
    let script = format!("echo {word} >/run/word; echo {word} >/var/word");
    lab.done(&["exec", "--all", "--", "sh", "-c", &script]);
}

fn words(lab: &TestLab, word: &str) {
    let said = lab.done(&["exec", "--all", "--", "cat", "/run/word", "/var/word"]);
    assert_eq!(said.matches(word).count(), 4, "{said}");
}

#[test]
fn a_full_pool_is_told_of_and_takes_nothing_with_it() {
    let (_directory, device) = plain_machine(DISK_GIB);
    let machine = Machine::boot(&device.0, 0);
    let lab = machine.lab();
    lab.done(&["up", "tiny"]);
    write(&lab, "cut");
    lab.done(&["snapshot", "x"]);
    write(&lab, "later");
    assert_eq!(lab.json(&["status"])["short_bytes"], 0);

    let filled = Filled::leaving(&lab, 64);
    let status = lab.json(&["status"]);
    assert!(status["short_bytes"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["baselines"], serde_json::json!(["x"]));
    let said = lab.done(&["status"]);
    assert!(
        said.contains("SPACE: ") && said.contains("--remove"),
        "{said}"
    );
    let doctor = lab.json(&["doctor"]);
    let disk = doctor["lines"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["id"] == "disk");
    assert_eq!(disk.unwrap()["state"], "degraded", "{doctor}");

    let refused = lab.run(&["snapshot", "y"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(
        said.contains("nothing was stopped")
            && said.contains("is free")
            && said.contains("--remove"),
        "{said}"
    );
    let other = machine.lab();
    let refused = other.run(&["up", "tiny"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("free"), "{said}");
    assert_eq!(other.traces(), Vec::<String>::new());

    words(&lab, "later");
    lab.done(&["restore", "x"]);
    words(&lab, "cut");
    drop(filled);
    lab.done(&["snapshot", "y"]);

    // All blocks of its memory are shared now, and there are none for what it writes.
    let filled = Filled::leaving(&lab, 2);
    let wrote = lab.run(&["exec", "b", "--", "twin-guest", "dirty", "128", "lines"]);
    assert_ne!(wrote.status.code(), Some(0), "{}", text(&wrote.stdout));
    drop(filled);
    // libvirt notices when the process has ended, which takes it a moment.
    wait_for("b has crashed", Duration::from_secs(30), || {
        (lab.json(&["status"])["hosts"][1]["power"] == "crashed").then_some(())
    });
    lab.done(&["restore", "x"]);
    words(&lab, "cut");
    for name in ["x", "y"] {
        lab.done(&["snapshot", name, "--verify"]);
    }
}
