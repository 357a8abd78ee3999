//! `twin console`.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The host.
    pub(crate) host: String,
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref(), host = flags.host))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    crate::cli::ui::no_document(context.ui, "console")?;
    let found = context.site.lab().await?;
    let target = found.host(&flags.host)?.target(found.record.uuid);
    let path = context.site.drivers().hypervisor.console(target).await?;
    context
        .ui
        .remark(&format!("console of {}; Ctrl-] leaves it", flags.host));
    let joined = tokio::task::spawn_blocking(move || join(&path)).await;
    let wrong = |why: String| {
        Failure::machine(
            format!("the console: {why}"),
            vec!["run as root; `twin status` shows whether the host runs".into()],
        )
    };
    joined
        .map_err(|error| wrong(error.to_string()))?
        .map_err(|error| wrong(error.to_string()))?;
    context.ui.remark("\nleft the console");
    DONE
}

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
fn join(path: &std::path::Path) -> std::io::Result<()> {
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
