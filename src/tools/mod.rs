//! Programs of this machine that read what others wrote: run with limits, and as another user where they need no more.
//!
//! Nova runs qemu-img within limits too: an image with hostile metadata has made it take all memory,
//! and open files that it should not.

mod namespace;

use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use namespace::UserNamespace;

/// What a program may take at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of address space.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu_s: u64,
}

impl Limits {
    /// For programs that read an image's tables.
    pub const IMAGE: Self = Self {
        memory: 4 << 30,
        cpu_s: 600,
    };

    /// For programs that build an image out of packages; a compressor has a thread for each processor.
    pub const BUILD: Self = Self {
        memory: 16 << 30,
        cpu_s: 1200,
    };
}

/// The words that run `program` within limits, and as the user and group of `user` where one is given: the program to start,
/// and the arguments that come before its own.
///
/// It runs in a session of its own: Ctrl-C at the terminal is for twin, and what has no terminal cannot type into the shell that
/// twin was started from. What starts it leaves its process group alone: a leader of one would fork here, and wait.
pub fn limited(
    program: &str,
    limits: Limits,
    user: Option<(u32, u32)>,
) -> (&'static str, Vec<OsString>) {
    let mut words: Vec<OsString> = vec![
        format!("--as={}", limits.memory).into(),
        format!("--cpu={}", limits.cpu_s).into(),
        "--core=0".into(),
    ];
    words.extend(["--", "setsid", "--wait", "--"].map(OsString::from));
    if let Some((user, group)) = user.filter(|_| rustix::process::geteuid().is_root()) {
        words.push("setpriv".into());
        words.push(format!("--reuid={user}").into());
        words.push(format!("--regid={group}").into());
        words.extend(["--init-groups", "--no-new-privs", "--"].map(OsString::from));
    }
    words.push(program.into());
    ("prlimit", words)
}

/// What a command runs: within limits, the program that they are for.
pub fn program(command: &std::process::Command) -> String {
    let called = command.get_program().to_string_lossy();
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    // Behind prlimit's own words and setsid's; then behind setpriv's, where there are some.
    let mut started = words.split(|word| word == "--").skip(2);
    let limited = || started.find_map(|words| words.first().filter(|word| *word != "setpriv"));
    let found = (called == "prlimit").then(limited).flatten();
    found.unwrap_or(&called).clone().into_owned()
}

/// A path as an argument that no program takes for an option or for a URL: from the root, or from the working directory.
pub fn plain(path: &Path) -> OsString {
    if path.is_absolute() {
        return path.into();
    }
    Path::new(".").join(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str, arguments: &[&str], user: Option<(u32, u32)>) -> std::process::Output {
        let limits = Limits {
            memory: 1 << 30,
            cpu_s: 1,
        };
        let (start, words) = limited(program, limits, user);
        let output = std::process::Command::new(start)
            .args(words)
            .args(arguments)
            .output();
        output.expect("it runs")
    }

    #[test]
    fn b5_a_program_is_held_to_its_limits_and_runs_without_root() {
        let hungry = "x=a; while :; do x=$x$x; done";
        assert!(!run("sh", &["-c", hungry], None).status.success(), "memory");
        assert!(
            !run("sh", &["-c", "while :; do :; done"], None)
                .status
                .success(),
            "time"
        );
        assert!(run("true", &[], None).status.success());
        if rustix::process::geteuid().is_root() {
            let told = run("id", &["-u"], Some((65534, 65534)));
            assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "65534");
            let kept = run("cat", &["/etc/shadow"], Some((65534, 65534)));
            assert!(!kept.status.success());
        }
        // It leads a session of its own, and so has no terminal.
        let own = run("sh", &["-c", "echo $$; ps -o sid= -p $$"], None);
        let told = String::from_utf8_lossy(&own.stdout).into_owned();
        let (process, session) = told.trim().split_once('\n').expect("two lines");
        assert_eq!(process.trim(), session.trim());
    }

    #[test]
    fn what_runs_within_limits_is_called_by_its_own_name() {
        for user in [None, Some((65534, 65534))] {
            let (start, words) = limited("qemu-img", Limits::IMAGE, user);
            let mut command = std::process::Command::new(start);
            command.args(words).args(["create", "--", "file"]);
            assert_eq!(program(&command), "qemu-img");
        }
        let mut command = std::process::Command::new("mkfs.xfs");
        command.args(["--", "a", "--", "b"]);
        assert_eq!(program(&command), "mkfs.xfs");
        assert_eq!(program(&std::process::Command::new("prlimit")), "prlimit");
    }

    #[test]
    fn b5_a_relative_path_is_no_option() {
        assert_eq!(plain(Path::new("-Kx")), "./-Kx");
        assert_eq!(plain(Path::new("/a/-b")), "/a/-b");
    }
}
