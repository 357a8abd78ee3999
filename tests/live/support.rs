//! Labs for tests.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::turns::{self, Turn};

/// Whether tests run at full size.
pub(crate) fn full() -> bool {
    std::env::var("TWIN_LIVE").is_ok_and(|size| size == "full")
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The state directory: images are kept there between runs.
pub(crate) fn state() -> PathBuf {
    std::env::var_os("TWIN_STATE_DIR").map_or_else(|| PathBuf::from("/var/lib/twin"), PathBuf::from)
}

/// A directory that QEMU's user can pass through, removed at the end.
pub(crate) fn qemu_directory(name: &str) -> tempfile::TempDir {
    let directory = tempfile::Builder::new()
        .prefix(&format!("test-{name}-"))
        .tempdir_in(state())
        .unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    directory
}

/// Text of a stream.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a tool and returns its output.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    output_of(Command::new(program).args(arguments))
}

fn output_of(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Makes a blank qcow2 image.
pub(crate) fn blank_image(path: &Path, size: &str) {
    let shown = path.display().to_string();
    tool("qemu-img", &["create", "-q", "-f", "qcow2", &shown, size]);
}

/// A lab of a test's own; destroyed when dropped.
pub(crate) struct TestLab {
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    /// The first process of the machine that it is on, where that is not this one.
    pub(crate) inside: Option<String>,
    /// Given back once the lab is destroyed.
    _turn: Turn,
}

impl TestLab {
    /// Chooses a name that no other test has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(format!("t{}-{number}", std::process::id()), state())
    }

    /// A lab of this name, whose state directory is to be `state`.
    pub(crate) fn named(name: String, state: PathBuf) -> Self {
        Self {
            name,
            state,
            inside: None,
            _turn: turns::beside(),
        }
    }

    /// A program on its machine.
    fn program(&self, program: &str) -> Command {
        let Some(first) = &self.inside else {
            return Command::new(program);
        };
        let mut command = inside(first);
        command.arg(program);
        command
    }

    /// Runs a tool on its machine and returns its output.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> String {
        output_of(self.program(program).args(arguments))
    }

    /// Its pool, as this machine sees it.
    pub(crate) fn pool(&self) -> PathBuf {
        let pool = self.state.join("pool");
        match &self.inside {
            Some(first) => PathBuf::from(format!("/proc/{first}/root{}", pool.display())),
            None => pool,
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_twin"));
        command
            .args(["--color", "never", "--lab", &self.name, "--state-dir"])
            .arg(&self.state)
            .args(arguments)
            .current_dir(root())
            // A test says no by leaving it out.
            .env("TWIN_YES", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a verb.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("twin runs")
    }

    /// Runs a verb that has to end with 0; returns its standard output.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs a verb with `--json`; returns the document.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.run(&all);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{arguments:?}: {error}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            )
        })
    }

    /// The bridge of one of its networks, as libvirt tells it.
    pub(crate) fn bridge(&self, network: &str) -> String {
        let told = self.tool("virsh", &["net-info", &format!("{}-{network}", self.name)]);
        let line = told.lines().find_map(|line| line.strip_prefix("Bridge:"));
        line.expect("a bridge").trim().to_owned()
    }

    /// Runs a line of the shell in a host; returns its output.
    pub(crate) fn sh(&self, host: &str, line: &str) -> String {
        self.done(&["exec", host, "--", "sh", "-c", line])
    }

    /// Starts a verb in the background.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("twin starts")
    }

    /// Everything on this machine that carries the lab's name or mark.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let prefix = format!("{}-", self.name);
        let listed = |arguments: &[&str]| {
            self.tool("virsh", arguments)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        traces.extend(
            listed(&["list", "--all", "--name"])
                .into_iter()
                .filter(|name| name.starts_with(&prefix)),
        );
        traces.extend(
            listed(&["net-list", "--all", "--name"])
                .into_iter()
                .filter(|name| name.starts_with(&prefix)),
        );
        for entry in std::fs::read_dir(self.pool().join("labs"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let record = std::fs::read_to_string(entry.path().join("lab.json")).unwrap_or_default();
            if record.contains(&format!("\"{}\"", self.name)) {
                traces.push(entry.path().display().to_string());
            }
        }
        traces
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        // A lab that the test has destroyed itself, or never made, is as good.
        let _ = self.run(&["destroy"]);
    }
}

/// Runs what its arguments say on the machine whose first process that is.
pub(crate) fn inside(first: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", first, "--mount", "--net", "--pid", "--"]);
    command
}

/// Runs a script of this directory as the first process of new namespaces; killed, it takes all of them along.
pub(crate) fn in_namespaces(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "bash"])
        .arg(root().join("tests/live").join(script))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The first line that a process says.
pub(crate) fn first_line(process: &mut Child) -> String {
    let mut line = String::new();
    let mut said = std::io::BufReader::new(process.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    line
}

/// An image of a name that no other test has; it is removed from the store when this is dropped, after the labs that boot it.
pub(crate) struct OwnImage {
    pub(crate) name: String,
}

impl OwnImage {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name}{}", std::process::id());
        Self { name }
    }

    /// The line of a recipe that names it.
    pub(crate) fn named(&self) -> String {
        format!("name: {}", self.name)
    }

    /// Writes its recipe where a twin finds it that has this directory as its `XDG_CONFIG_HOME`.
    pub(crate) fn write(&self, configuration: &Path, recipe: &str) {
        let images = configuration.join("twin/images");
        std::fs::create_dir_all(&images).unwrap();
        std::fs::write(images.join(format!("{}.yaml", self.name)), recipe).unwrap();
    }
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        let prefix = format!("{}-", self.name);
        for entry in std::fs::read_dir(state().join("pool/images"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Kills libvirtd, and starts it again as host-setup does where no systemd runs.
pub(crate) fn restart_libvirtd() {
    let pid = std::fs::read_to_string("/run/libvirtd.pid").unwrap();
    tool("kill", &["-9", pid.trim()]);
    let process = PathBuf::from("/proc").join(pid.trim());
    wait_for("libvirtd ends", Duration::from_secs(20), || {
        (!process.exists()).then_some(())
    });
    tool("sh", &["-c", "umask 022; exec libvirtd -d"]);
}

/// Checks a document against `twin schema`.
pub(crate) fn valid(lab: &TestLab, schema: &str, document: &serde_json::Value) {
    let schema: serde_json::Value = serde_json::from_str(&lab.done(&["schema", schema])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Starts a verb and kills it after `after`; tells whether it was still at work.
pub(crate) fn killed(lab: &TestLab, arguments: &[&str], after: Duration) -> bool {
    let mut child = lab.spawn(arguments);
    let until = Instant::now() + after;
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// The shortest of a few times that `work` takes: what it can do, whatever else runs on the machine meanwhile.
pub(crate) fn at_best(mut work: impl FnMut()) -> Duration {
    let mut timed = || {
        let from = Instant::now();
        work();
        from.elapsed()
    };
    (0..5).map(|_| timed()).min().expect("it was done")
}

/// Waits until `found` returns something, within `deadline`.
pub(crate) fn wait_for<T>(what: &str, deadline: Duration, found: impl FnMut() -> Option<T>) -> T {
    wait_or_say(what, deadline, found, String::new)
}

/// The same; a test that waits in vain fails with what `say` returns.
pub(crate) fn wait_or_say<T>(
    what: &str,
    deadline: Duration,
    mut found: impl FnMut() -> Option<T>,
    say: impl FnOnce() -> String,
) -> T {
    let until = Instant::now() + deadline;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(
            Instant::now() < until,
            "{what}: not within {deadline:?}\n{}",
            say()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What libvirt, the bridges and nft show of a stranger's things.
pub(crate) struct Strangers {
    names: Vec<String>,
}

impl Strangers {
    /// Makes two domains, a network, a bridge and a table by hand; one domain is called like one of `lab`'s.
    pub(crate) fn make(lab: &str) -> Self {
        let names = vec![format!("{lab}-zz"), format!("stranger-{lab}")];
        let strangers = Self { names };
        for name in &strangers.names {
            let xml = format!(
                "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
                 <os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>"
            );
            define("define", &xml);
        }
        define(
            "net-define",
            &format!(
                "<network><name>{}</name><bridge name='twstr1'/></network>",
                strangers.network()
            ),
        );
        tool("ip", &["link", "add", "twstr0", "type", "bridge"]);
        tool("nft", &["add", "table", "ip", "twin_stranger"]);
        tool(
            "nft",
            &[
                "add",
                "chain",
                "ip",
                "twin_stranger",
                "c",
                "{ type filter hook forward priority 5; }",
            ],
        );
        strangers
    }

    fn network(&self) -> String {
        format!("stranger-net-{}", std::process::id())
    }

    /// All of it, byte by byte.
    pub(crate) fn picture(&self) -> String {
        let mut picture = String::new();
        for name in &self.names {
            picture.push_str(&tool("virsh", &["dumpxml", name]));
        }
        picture.push_str(&tool("virsh", &["net-dumpxml", &self.network()]));
        picture.push_str(&tool("ip", &["-d", "link", "show", "twstr0"]));
        picture.push_str(&tool("nft", &["list", "table", "ip", "twin_stranger"]));
        picture
    }
}

/// Defines something of libvirt's by hand.
pub(crate) fn define(verb: &str, xml: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, xml.as_bytes()).unwrap();
    tool("virsh", &[verb, &file.path().display().to_string()]);
}

impl Drop for Strangers {
    fn drop(&mut self) {
        // Each is this test's own; what is gone already is as good.
        let quiet = |program: &str, arguments: &[&str]| {
            let _ = Command::new(program).args(arguments).output();
        };
        for name in &self.names {
            quiet("virsh", &["undefine", name]);
        }
        quiet("virsh", &["net-undefine", &self.network()]);
        quiet("ip", &["link", "del", "twstr0"]);
        quiet("nft", &["delete", "table", "ip", "twin_stranger"]);
    }
}
