//! The terminal, joined up with a console.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Puts the terminal back when it goes.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Joins the terminal and the console until Ctrl-], or either end closes.
pub(crate) fn join(path: &std::path::Path) -> std::io::Result<()> {
    let mut console = OpenOptions::new().read(true).write(true).open(path)?;
    let mut mode = tcgetattr(&console)?;
    cfmakeraw(&mut mode);
    tcsetattr(&console, SetArg::TCSANOW, &mode)?;
    let _raw = Raw::enter()?;
    let (stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
    let mut piece = [0u8; 4096];
    loop {
        let (typed, said) = {
            let mut watched = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(console.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut watched, PollTimeout::NONE)?;
            (
                watched[0].any().unwrap_or(false),
                watched[1].any().unwrap_or(false),
            )
        };
        if said {
            match console.read(&mut piece) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => {
                    stdout.write_all(&piece[..length])?;
                    stdout.flush()?;
                }
            }
        }
        if typed {
            let length = stdin.lock().read(&mut piece)?;
            let end = piece[..length].iter().position(|byte| *byte == ESCAPE);
            console.write_all(&piece[..end.unwrap_or(length)])?;
            if length == 0 || end.is_some() {
                return Ok(());
            }
        }
    }
}
