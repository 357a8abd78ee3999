//! Who can read and write what.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{TestLab, qemu_directory, root, state, text, tool};

/// Runs something as another user; returns whether it succeeded.
fn as_user(user: u32, groups: Option<u32>, argv: &[&str]) -> bool {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg("--regid=65534");
    match groups {
        Some(group) => command.arg(format!("--groups={group}")),
        None => command.arg("--clear-groups"),
    };
    command.args(argv).output().unwrap().status.success()
}

const NOBODY: u32 = 65534;

/// All that is below a directory.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.clone());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, found);
        }
    }
}

/// Tries to read, list, write and connect to everything as a user without groups; returns what could be.
fn open_to_others(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    walk(directory, &mut all);
    assert!(all.len() > 20, "{all:?}");
    let mut open = Vec::new();
    for path in all {
        // What a lab that ends takes with it.
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        let shown = path.display().to_string();
        let kind = found.file_type();
        if kind.is_dir() {
            if as_user(NOBODY, None, &["ls", &shown]) {
                open.push(format!("lists {shown}"));
            }
            if as_user(NOBODY, None, &["test", "-w", &shown]) {
                open.push(format!("writes to {shown}"));
            }
        } else {
            let ways: &[&str] = if kind.is_socket() {
                &["-w"]
            } else {
                &["-r", "-w"]
            };
            for way in ways {
                if as_user(NOBODY, None, &["test", way, &shown]) {
                    open.push(format!("{way} {shown} ({:o})", found.mode()));
                }
            }
        }
    }
    open
}

/// Makes a state directory with a pool in it, and this machine's images: a copy is the same as a build.
pub(crate) fn own_pool(state_directory: &Path) {
    let pool = state_directory.join("pool");
    std::fs::create_dir_all(&pool).unwrap();
    for path in [state_directory, &pool] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    let images = state().join("pool/images").display().to_string();
    let place = pool.display().to_string();
    tool(
        "cp",
        &["-r", "--preserve=mode", "--reflink=auto", &images, &place],
    );
}

/// A lab whose state directory is its own, with the images that are built; keep the directory for as long as the lab.
pub(crate) fn with_own_pool(name: &str) -> (tempfile::TempDir, TestLab) {
    let directory = qemu_directory(name);
    let mut lab = TestLab::new();
    directory.path().clone_into(&mut lab.state);
    own_pool(&lab.state);
    (directory, lab)
}

/// A lab in a state directory of its own, made, captured and broken under different umasks.
#[test]
fn b1_no_other_user_reads_or_writes_anything_below_the_state_directory_whatever_the_umask() {
    let (directory, lab) = with_own_pool("private");
    let scenario = directory.path().join("change.yaml");
    std::fs::write(
        &scenario,
        "schema: twin/scenario/v1\nname: change\ntitle: A file with a secret is changed\n\
         variants: {all: {expect: {gone: never}}}\n\
         probes: [{id: gone, domain-state: {host: a, is: crashed}}]\n\
         steps: [{id: other, do: {file-change: {host: a, path: /root/secret, content: other}}}]\nobserve: 1s\n",
    )
    .unwrap();
    let scenario = scenario.display().to_string();
    let run = |umask: &str, words: &[&str]| {
        let command = lab.command(words);
        let mut all = Command::new("sh");
        all.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(root())
            .env("TWIN_YES", "1")
            .stdin(std::process::Stdio::null());
        let output = all.output().unwrap();
        let code = output.status.code();
        assert!(
            matches!(code, Some(0)),
            "{umask} {words:?}: {}",
            text(&output.stderr)
        );
    };
    run("000", &["up", "tiny"]);
    run("022", &["snapshot", "base"]);
    lab.sh("a", "echo s3cret-of-a-guest > /root/secret");
    for umask in ["000", "022", "077"] {
        run(
            umask,
            &["scenario", &scenario, "--variant", "all", "--keep"],
        );
        let open: Vec<String> = open_to_others(&lab.state)
            .into_iter()
            .filter(|open| !open.contains("change.yaml"))
            .collect();
        assert!(open.is_empty(), "umask {umask}: {open:#?}");
        // What a guest's file held is beside the journal, and root's alone.
        let journal = std::fs::read(lab.state.join("journal.sqlite")).unwrap();
        let encoded = b"czNjcmV0LW9mLWEtZ3Vlc3";
        let holds = |bytes: &[u8]| bytes.windows(encoded.len()).any(|piece| piece == encoded);
        assert!(!holds(&journal));
        let mut kept = Vec::new();
        walk(&lab.state.join("captured"), &mut kept);
        let kept: Vec<_> = kept.into_iter().filter(|path| path.is_file()).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert!(holds(&std::fs::read(&kept[0]).unwrap()));
        assert_eq!(kept[0].metadata().unwrap().mode() & 0o777, 0o600);
        run(umask, &["recover"]);
        assert!(!kept[0].exists());
    }
    let journal = lab.state.join("journal.sqlite").metadata().unwrap();
    assert_eq!(journal.mode() & 0o777, 0o640);
    run("000", &["restore", "base"]);
    run(
        "000",
        &[
            "report",
            "--html",
            "-o",
            &directory.path().join("r.html").display().to_string(),
        ],
    );
    lab.done(&["destroy"]);
    assert!(!lab.state.join("captured").join("x").exists());
}

/// A user of the test's own; removed when dropped.
struct Member(String);

impl Member {
    fn new() -> Self {
        let name = format!("twin{}", std::process::id());
        tool(
            "useradd",
            &["--no-create-home", "--groups", "libvirt", &name],
        );
        Self(name)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.0).output();
    }
}

/// `status`, `runs` and `report` are for members of the group libvirt, also where there are baselines, and for no other user.
#[test]
fn b1_members_of_the_group_libvirt_can_look_and_no_other_user() {
    let member = Member::new();
    let directory = qemu_directory("member");
    let lab = TestLab::named(
        format!("m{}", std::process::id()),
        directory.path().join("state"),
    );
    own_pool(&lab.state);
    // The binaries are where only root can go on some machines.
    let programs = directory.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_twin")).parent().unwrap();
    for name in ["twin", "twin-guest"] {
        std::fs::copy(built.join(name), programs.join(name)).unwrap();
        std::fs::set_permissions(programs.join(name), std::fs::Permissions::from_mode(0o755))
            .unwrap();
    }
    std::fs::set_permissions(&programs, std::fs::Permissions::from_mode(0o755)).unwrap();
    let twin = format!(
        "{}/twin --color never --lab {} --state-dir {}",
        programs.display(),
        lab.name,
        lab.state.display()
    );
    let topology = root().join("topologies/tiny.yaml");
    let scenario = directory.path().join("wait.yaml");
    std::fs::write(
        &scenario,
        "schema: twin/scenario/v1\nname: wait\ntitle: Nothing happens\nvariants: {all: {expect: {gone: never}}}\n\
         probes: [{id: gone, domain-state: {host: a, is: crashed}}]\nsteps: [{id: wait, pause: 1s}]\nobserve: 1s\n",
    )
    .unwrap();
    let script = format!(
        "export TWIN_YES=1; cd /; trap '{twin} destroy >/dev/null 2>&1' EXIT
         {twin} up {} --accel tcg >/dev/null || exit 10
         {twin} snapshot base >/dev/null || exit 11
         {twin} scenario {} >/dev/null || exit 12
         member() {{ setpriv --reuid={m} --regid=65534 --init-groups \"$@\"; }}
         nobody() {{ setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"; }}
         member {twin} status || exit 13
         member {twin} status | grep -q base || exit 14
         member {twin} runs | grep -q wait || exit 15
         member {twin} report | grep -q wait || exit 16
         member {twin} snapshots | grep -q base || exit 17
         for verb in status runs report snapshots; do
             if nobody {twin} $verb >/dev/null 2>&1; then echo \"nobody could $verb\"; exit 18; fi
         done
         member {twin} down --yes && exit 19
         exit 0",
        topology.display(),
        scenario.display(),
        m = member.0,
    );
    let output = Command::new("unshare")
        .args(["-m", "bash"])
        .arg(root().join("tests/live/apart.sh"))
        .arg(&script)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}
