//! A user namespace: programs in it take themselves for root, and are a user of this machine that owns nothing else.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

/// The user that root is in it, on this machine: the last 65536 of those that systemd leaves to containers. What they own is
/// removed with what was built.
const FIRST: u32 = 1_878_982_656;

/// How many users there are in it.
const USERS: u32 = 65_536;

/// A namespace, until it is dropped and nothing runs in it any more.
///
/// No process of root's waits in it: root of the namespace could take that over.
#[derive(Debug)]
pub struct UserNamespace {
    own: File,
}

impl UserNamespace {
    /// Makes one; only root can, and not on every machine.
    pub fn new() -> io::Result<Self> {
        let mut maker = Command::new("unshare")
            .args(["--user", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let made = made_by(&mut maker);
        // It may have ended by itself, which is as good.
        let _ = maker.kill();
        let _ = maker.wait();
        made
    }

    /// The user and group of this machine that root is in it.
    pub const fn root(&self) -> (u32, u32) {
        (FIRST, FIRST)
    }

    /// The words that run a program as root in it, while this process lives: what to start, and the arguments before the
    /// program. The program sees only its own processes, and what it leaves running ends with it.
    pub fn words(&self) -> (&'static str, Vec<OsString>) {
        let (process, file) = (std::process::id(), self.own.as_raw_fd());
        let place = format!("--user=/proc/{process}/fd/{file}");
        let alone = [
            "--",
            "unshare",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "--",
        ];
        let alone = alone.into_iter().map(OsString::from);
        let words = std::iter::once(OsString::from(place)).chain(alone);
        ("nsenter", words.collect())
    }
}

/// Maps the users of the namespace that this process is in.
fn made_by(maker: &mut Child) -> io::Result<UserNamespace> {
    let none = || io::Error::other("unshare --user failed");
    // Once it answers, it is inside.
    let input = maker.stdin.as_mut().ok_or_else(none)?;
    input.write_all(b"?")?;
    let output = maker.stdout.as_mut().ok_or_else(none)?;
    if output.read(&mut [0])? == 0 {
        return Err(none());
    }
    let process = maker.id();
    for map in ["uid_map", "gid_map"] {
        let file = format!("/proc/{process}/{map}");
        std::fs::write(file, format!("0 {FIRST} {USERS}"))?;
    }
    let own = File::open(format!("/proc/{process}/ns/user"))?;
    Ok(UserNamespace { own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b5_root_in_a_namespace_is_nobody_outside() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let namespace = UserNamespace::new().expect("made");
        let run = |arguments: &[&str]| {
            let (start, words) = namespace.words();
            let done = Command::new(start).args(words).args(arguments).output();
            done.expect("it runs")
        };
        let user = run(&["id", "-u"]);
        assert_eq!(String::from_utf8_lossy(&user.stdout).trim(), "0");
        assert!(!run(&["cat", "/etc/shadow"]).status.success());
        assert!(!run(&["touch", "/etc/b5"]).status.success());
        let private = tempfile::tempdir().expect("a directory");
        let file = private.path().join("f").display().to_string();
        assert!(!run(&["touch", &file]).status.success());
        let (user, group) = namespace.root();
        std::os::unix::fs::chown(private.path(), Some(user), Some(group)).expect("given");
        assert!(run(&["touch", &file]).status.success());
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(file).expect("there"));
        assert_eq!(owner, user);

        // No other process is in it that its root could take over; and what a program leaves running ends with it.
        let inside = |process: &str| {
            let link = |place: String| std::fs::read_link(place).ok();
            let own = link(format!("/proc/self/fd/{}", namespace.own.as_raw_fd()));
            own.is_some() && link(format!("/proc/{process}/ns/user")) == own
        };
        let mark = format!("{}.5", std::process::id());
        run(&[
            "sh",
            "-c",
            &format!("setsid sleep 300{mark} >/dev/null 2>&1 &"),
        ]);
        for entry in std::fs::read_dir("/proc").expect("listed").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!inside(&name), "{name}");
        }
    }
}
