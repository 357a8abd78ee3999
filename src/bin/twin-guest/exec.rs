//! Programs that twin runs in the guest.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use twin::wire::{Bytes, CHUNK_BYTES, Reply, STDIN_WINDOW};

use crate::channel::Outlet;
use crate::keep::locked;

/// The programs that run, by request. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Programs(Arc<Mutex<HashMap<(u64, u32), Running>>>);

struct Running {
    pid: u32,
    stdin: Option<SyncSender<Vec<u8>>>,
}

impl Programs {
    /// Starts a program and sends its streams and its end through `outlet`.
    pub(crate) fn start(&self, outlet: Outlet, argv: &[String], stdin: bool) {
        let key = (outlet.session, outlet.id);
        let [program, arguments @ ..] = argv else {
            return outlet.send(&Reply::Failed {
                why: "there is no program to run".into(),
            });
        };
        let spawned = Command::new(program)
            .args(arguments)
            .process_group(0)
            .stdin(if stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                return outlet.send(&Reply::Failed {
                    why: format!("cannot run {program}: {error}"),
                });
            }
        };
        let input = child.stdin.take().map(|pipe| feed(pipe, outlet.clone()));
        locked(&self.0).insert(
            key,
            Running {
                pid: child.id(),
                stdin: input,
            },
        );
        let programs = self.clone();
        std::thread::spawn(move || {
            let code = stream(&mut child, &outlet);
            locked(&programs.0).remove(&key);
            outlet.send(&Reply::Exited { code });
        });
    }

    /// Hands a piece of standard input over. A client that keeps to the window never finds the queue full.
    pub(crate) fn stdin(&self, outlet: &Outlet, data: Bytes) {
        let sender = locked(&self.0)
            .get(&(outlet.session, outlet.id))
            .and_then(|running| running.stdin.clone());
        let taken = sender.is_some_and(|sender| sender.try_send(data.0).is_ok());
        if !taken {
            outlet.send(&Reply::StdinTaken);
        }
    }

    /// Closes a program's standard input once all of it is written.
    pub(crate) fn stdin_end(&self, session: u64, id: u32) {
        if let Some(running) = locked(&self.0).get_mut(&(session, id)) {
            running.stdin = None;
        }
    }

    /// Kills one program with its process group.
    pub(crate) fn kill(&self, session: u64, id: u32) {
        if let Some(running) = locked(&self.0).get(&(session, id)) {
            kill_group(running.pid);
        }
    }

    /// Kills the programs of all sessions but `session`: their clients are gone.
    pub(crate) fn kill_others(&self, session: Option<u64>) {
        for ((owner, _), running) in &*locked(&self.0) {
            if Some(*owner) != session {
                kill_group(running.pid);
            }
        }
    }
}

fn kill_group(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // Already gone is as good.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Writes queued pieces into the program's standard input and acknowledges each.
fn feed(mut pipe: ChildStdin, outlet: Outlet) -> SyncSender<Vec<u8>> {
    let (sender, receiver): (_, Receiver<Vec<u8>>) = sync_channel(STDIN_WINDOW);
    std::thread::spawn(move || {
        let mut open = true;
        for piece in receiver {
            open = open && pipe.write_all(&piece).is_ok();
            outlet.send(&Reply::StdinTaken);
        }
    });
    sender
}

/// Sends both outputs until the program ends; returns its exit code.
fn stream(child: &mut Child, outlet: &Outlet) -> i32 {
    let errors = child.stderr.take().map(|pipe| {
        let outlet = outlet.clone();
        std::thread::spawn(move || copy(pipe, &outlet, true))
    });
    if let Some(pipe) = child.stdout.take() {
        copy(pipe, outlet, false);
    }
    if let Some(errors) = errors {
        // The thread only copies; it ends with the pipe.
        let _ = errors.join();
    }
    match child.wait() {
        Ok(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
        Err(_) => 255,
    }
}

fn copy(mut pipe: impl Read, outlet: &Outlet, stderr: bool) {
    let mut piece = vec![0u8; CHUNK_BYTES];
    while let Ok(length @ 1..) = pipe.read(&mut piece) {
        outlet.send(&Reply::Output {
            stderr,
            data: Bytes(piece[..length].to_vec()),
        });
    }
}
