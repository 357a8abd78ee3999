//! A user namespace: programs in it take themselves for root, and are a user of this machine that owns nothing else.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

/// The user that root is in it, on this machine: the last 65536 of those that systemd leaves to containers. What they own is
/// removed with what was built.
const FIRST: u32 = 1_878_982_656;

/// How many users there are in it.
const USERS: u32 = 65_536;

/// A namespace, until it is dropped. What is done in it ends by then.
#[derive(Debug)]
pub struct UserNamespace {
    /// Its first process, which waits.
    holder: Child,
}

impl UserNamespace {
    /// Makes one; only root can, and not on every machine.
    pub fn new() -> io::Result<Self> {
        let holder = Command::new("unshare")
            .args(["--user", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut namespace = Self { holder };
        namespace.wait_until_it_is_there()?;
        let process = namespace.holder.id();
        for map in ["uid_map", "gid_map"] {
            let file = format!("/proc/{process}/{map}");
            std::fs::write(file, format!("0 {FIRST} {USERS}"))?;
        }
        Ok(namespace)
    }

    /// What answers is there: it was started inside.
    fn wait_until_it_is_there(&mut self) -> io::Result<()> {
        let none = || io::Error::other("unshare --user failed");
        let input = self.holder.stdin.as_mut().ok_or_else(none)?;
        input.write_all(b"?")?;
        let output = self.holder.stdout.as_mut().ok_or_else(none)?;
        let read = output.read(&mut [0])?;
        if read == 0 { Err(none()) } else { Ok(()) }
    }

    /// The user and group of this machine that root is in it.
    pub const fn root(&self) -> (u32, u32) {
        (FIRST, FIRST)
    }

    /// The words that run a program in it: what to start, and the arguments before the program.
    pub fn words(&self) -> (&'static str, Vec<OsString>) {
        let place = format!("--user=/proc/{}/ns/user", self.holder.id());
        ("nsenter", vec![place.into(), "--".into()])
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
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
    }
}
