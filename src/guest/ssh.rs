//! The way over SSH, for guests that have no twin-guest.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{ClockReading, Greeting, Guest, GuestError, Output, Program, collect};
use crate::clock::Clock;
use crate::storage;
use crate::wire::{CHUNK_BYTES, GuestState, KernelLine, Request};

/// One try to log in.
const LOGIN: Duration = Duration::from_secs(20);

/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// ssh's own exit code for a connection that failed.
const SSH_FAILED: i32 = 255;

/// A guest that is reached over SSH, as the user `twin`.
#[derive(Clone, Debug)]
pub struct Ssh {
    address: Ipv4Addr,
    key: PathBuf,
    known: PathBuf,
}

/// Makes a key pair at `path` (0600) unless there is one; returns the public key's line. Of several twins that
/// make one at once the first one's stays.
pub async fn make_key(path: &Path) -> std::io::Result<String> {
    if !path.exists() {
        let directory = path.parent().unwrap_or(Path::new("."));
        let draft = tempfile::TempDir::new_in(directory)?;
        let made = draft.path().join("key");
        keygen(
            &["-q", "-t", "ed25519", "-N", "", "-C", "twin", "-f"],
            &made,
        )
        .await?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        match std::fs::hard_link(&made, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // From the private key: it alone says who gets in.
    let public = keygen(&["-y", "-P", "", "-f"], path).await?;
    Ok(format!("{} twin", public.trim()))
}

async fn keygen(arguments: &[&str], file: &Path) -> std::io::Result<String> {
    let output = Command::new("ssh-keygen")
        .args(arguments)
        .arg(file)
        .kill_on_drop(true)
        .output()
        .await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(std::io::Error::other(format!(
        "ssh-keygen: {}",
        said.trim()
    )))
}

/// What a guest proves itself with: the file with its host key, as twin has put it into the guest, or as it was first seen.
fn host_key_options(known: &Path) -> [String; 2] {
    // A guest of an older twin's has made its key itself: it is believed once, and held to it from then on.
    let pinned = known.metadata().is_ok_and(|found| found.len() > 0);
    let check = if pinned { "yes" } else { "accept-new" };
    [
        format!("StrictHostKeyChecking={check}"),
        format!("UserKnownHostsFile=\"{}\"", known.display()),
    ]
}

/// Options that leave the guest nothing of the operator's: no configuration, agent, forwarding, or other key.
const OPTIONS: [&str; 15] = [
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ControlPath=none",
    "ProxyCommand=none",
    "UpdateHostKeys=no",
    "GlobalKnownHostsFile=/dev/null",
    "PreferredAuthentications=publickey",
    "LogLevel=ERROR",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
];

impl Ssh {
    /// Makes the way; nothing is opened yet. `known` is the file with the guest's host key.
    pub const fn new(address: Ipv4Addr, key: PathBuf, known: PathBuf) -> Self {
        Self {
            address,
            key,
            known,
        }
    }

    fn command(&self, argv: &[String]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-a", "-x", "-i"])
            .arg(&self.key);
        let pinned = host_key_options(&self.known);
        for option in OPTIONS.into_iter().chain(pinned.iter().map(String::as_str)) {
            command.args(["-o", option]);
        }
        command
            .args(["-l", "twin", "--"])
            .arg(self.address.to_string())
            .args(argv.iter().map(|word| quoted(word)))
            // Ctrl-C at a terminal is for twin, which may be in the middle of an undo.
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Quotes a word for the remote shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[async_trait]
impl Guest for Ssh {
    async fn greet(&self, deadline: Duration) -> Result<Greeting, GuestError> {
        let mut last = None;
        let tries = async {
            loop {
                match collect(
                    self,
                    &[
                        "cat",
                        "/proc/sys/kernel/random/boot_id",
                        "/proc/sys/kernel/hostname",
                        "/proc/uptime",
                    ],
                    LOGIN,
                )
                .await
                {
                    Ok((0, stdout, _)) => return String::from_utf8_lossy(&stdout).into_owned(),
                    Ok((code, _, stderr)) => {
                        last = Some(format!(
                            "exit {code}: {}",
                            String::from_utf8_lossy(&stderr).trim()
                        ));
                    }
                    Err(error) => last = Some(error.to_string()),
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        let answered = tokio::time::timeout(deadline, tries).await;
        let Ok(text) = answered else {
            return Err(GuestError::Deadline {
                what: format!("logging in at {}", self.address),
                deadline,
                last,
            });
        };
        let mut lines = text.lines();
        let mut line = || lines.next().unwrap_or_default().to_owned();
        let (boot_id, hostname, uptime) = (line(), line(), line());
        let seconds: f64 = uptime
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or_default();
        Ok(Greeting {
            boot_id,
            hostname,
            uptime: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            problems: Vec::new(),
        })
    }

    async fn run(&self, mut program: Program) -> Result<i32, GuestError> {
        let unreachable = |error: std::io::Error| GuestError::Unreachable {
            why: format!("ssh: {error}"),
        };
        let mut child = self
            .command(&program.argv)
            .stdin(if program.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(unreachable)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = async {
            if let (Some(mut stdin), Some(mut pieces)) = (stdin, program.stdin.take()) {
                while let Some(piece) = pieces.recv().await {
                    // A program that closed its input wants no more.
                    if stdin.write_all(&piece).await.is_err() {
                        break;
                    }
                }
            }
        };
        let ((), (), (), status) = tokio::join!(
            input,
            copy(stdout, |data| program.output.send(Output::Stdout(data))),
            copy(stderr, |data| program.output.send(Output::Stderr(data))),
            child.wait()
        );
        let code = status.map_err(unreachable)?.code().unwrap_or(SSH_FAILED);
        Ok(code)
    }

    async fn state(&self) -> Result<GuestState, GuestError> {
        Err(GuestError::Unsupported {
            what: "reading services and instances",
        })
    }

    async fn ask(&self, _: Request) -> Result<(), GuestError> {
        Err(GuestError::Unsupported { what: "this" })
    }

    async fn kernel_log(&self, _: u64) -> Result<Vec<KernelLine>, GuestError> {
        Err(GuestError::Unsupported {
            what: "reading the kernel's log",
        })
    }

    async fn clock(&self, here: &dyn Clock) -> Result<ClockReading, GuestError> {
        let asked = here.now().as_microsecond();
        let (_, stdout, _) = collect(self, &["date", "+%s%6N"], LOGIN).await?;
        let answered = here.now().as_microsecond();
        let text = String::from_utf8_lossy(&stdout);
        let guest_us = text.trim().parse().map_err(|_| GuestError::Refused {
            why: format!("date said {:?}", text.trim()),
        })?;
        Ok(ClockReading::of(guest_us, asked, answered))
    }

    async fn set_clock(&self, here: &dyn Clock) -> Result<(), GuestError> {
        // The guest moves its own clock, so that the login's time does not count.
        let by_us = self.clock(here).await?.behind_us;
        let script =
            format!("t=$(($(date +%s%6N) + {by_us})); date -s @${{t%??????}}.${{t#${{t%??????}}}}");
        let argv = ["sudo", "-n", "sh", "-c", &script];
        match collect(self, &argv, LOGIN).await? {
            (0, _, _) => Ok(()),
            (code, _, stderr) => Err(GuestError::Refused {
                why: format!("exit {code}: {}", String::from_utf8_lossy(&stderr).trim()),
            }),
        }
    }
}

async fn copy<F, R>(pipe: Option<R>, send: impl Fn(Vec<u8>) -> F)
where
    R: tokio::io::AsyncRead + Unpin,
    F: Future<Output = Result<(), tokio::sync::mpsc::error::SendError<Output>>>,
{
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0u8; CHUNK_BYTES];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        if send(piece[..length].to_vec()).await.is_err() {
            return;
        }
    }
}

/// Pins a guest's host key: from then on no other is believed at its addresses.
pub fn pin(known: &Path, addresses: &[Ipv4Addr], public_key: &str) -> std::io::Result<()> {
    let lines: String = addresses
        .iter()
        .map(|address| format!("{address} {public_key}\n"))
        .collect();
    storage::write(known, lines.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b5_ssh_gives_a_guest_nothing_and_believes_one_host_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let known = directory.path().join("known hosts");
        let address = Ipv4Addr::new(10, 1, 2, 3);
        let line = || {
            let ssh = Ssh::new(address, "/k".into(), known.clone());
            let command = ssh.command(&["-oProxyCommand=x".to_owned()]);
            let words = command.as_std().get_args();
            let words: Vec<String> = words
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            words
        };
        assert!(line().contains(&"StrictHostKeyChecking=accept-new".to_owned()));
        pin(&known, &[address], "ssh-ed25519 AAAA twin").expect("pinned");
        let words = line();
        let file = format!("UserKnownHostsFile=\"{}\"", known.display());
        for word in [
            "StrictHostKeyChecking=yes",
            "IdentityAgent=none",
            "IdentitiesOnly=yes",
            &file,
        ] {
            assert!(words.contains(&word.to_owned()), "{word}: {words:?}");
        }
        assert_eq!(words[..2], ["-F", "none"]);
        let end = words
            .iter()
            .position(|word| word == "--")
            .expect("an end of options");
        assert_eq!(words[end + 1..], ["10.1.2.3", "'-oProxyCommand=x'"]);
        let text = std::fs::read_to_string(&known).expect("read");
        assert_eq!(text, "10.1.2.3 ssh-ed25519 AAAA twin\n");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn several_hosts_at_once_get_the_same_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("guest");
        let all = (0..8).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { make_key(&path).await.expect("a key") })
        });
        let keys = futures::future::join_all(all).await;
        let keys: Vec<String> = keys.into_iter().map(|key| key.expect("made")).collect();
        assert!(keys[0].starts_with("ssh-ed25519 "), "{keys:?}");
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let left = std::fs::read_dir(directory.path()).expect("a directory");
        assert_eq!(left.count(), 1);
    }
}
