//! The way through twin-guest's channel.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::session::Session;
use super::{ClockReading, Greeting, Guest, GuestError, Output, Program};
use crate::clock::Clock;
use crate::wire::{
    Bytes, CHUNK_BYTES, GuestState, KernelLine, PROTOCOL, Reply, Request, STDIN_WINDOW,
};

/// A guest that runs answers within this; a loaded machine under emulation takes seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a session takes to open when the guest is known to run.
const OPEN: Duration = Duration::from_secs(30);

/// A guest with twin-guest in it.
#[derive(Clone, Debug)]
pub struct TwinGuest {
    socket: PathBuf,
}

impl TwinGuest {
    /// Makes the way; nothing is opened yet.
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Makes one request and waits for its reply.
    async fn once(&self, request: Request, what: &str) -> Result<Reply, GuestError> {
        let (mut session, _) = Session::open(&self.socket, OPEN).await?;
        let exchange = async {
            session.send(1, &request).await?;
            loop {
                match session.receive(what).await? {
                    (1, Reply::Failed { why }) => return Err(GuestError::Refused { why }),
                    (1, reply) => return Ok(reply),
                    _ => {}
                }
            }
        };
        bounded(what, exchange).await
    }
}

fn unexpected(what: &str) -> GuestError {
    GuestError::Refused {
        why: format!(
            "its answer to {what} was not understood; its image is of another version: `twin up TOPOLOGY --replace HOST`"
        ),
    }
}

#[async_trait]
impl Guest for TwinGuest {
    async fn greet(&self, deadline: Duration) -> Result<Greeting, GuestError> {
        let (_session, reply) = Session::open(&self.socket, deadline).await?;
        match reply {
            Reply::Hello {
                protocol: PROTOCOL,
                boot_id,
                hostname,
                uptime_ms,
                ready: true,
                problems,
            } => Ok(Greeting {
                boot_id,
                hostname,
                uptime: Duration::from_millis(uptime_ms),
                problems,
            }),
            _ => Err(unexpected("hello")),
        }
    }

    async fn run(&self, program: Program) -> Result<i32, GuestError> {
        let (session, _) = Session::open(&self.socket, OPEN).await?;
        stream(session, program).await
    }

    async fn state(&self) -> Result<GuestState, GuestError> {
        match self.once(Request::State, "the guest's state").await? {
            Reply::State(state) => Ok(*state),
            _ => Err(unexpected("state")),
        }
    }

    async fn ask(&self, request: Request) -> Result<(), GuestError> {
        match self.once(request, "a request").await? {
            Reply::Done => Ok(()),
            _ => Err(unexpected("a request")),
        }
    }

    async fn kernel_log(&self, after: u64) -> Result<Vec<KernelLine>, GuestError> {
        let mut lines: Vec<KernelLine> = Vec::new();
        loop {
            let after = lines.last().map_or(after, |line| line.sequence);
            match self
                .once(Request::KernelLog { after }, "the kernel's log")
                .await?
            {
                Reply::KernelLog { lines: more } if more.is_empty() => return Ok(lines),
                Reply::KernelLog { lines: more } => lines.extend(more),
                _ => return Err(unexpected("kernel log")),
            }
        }
    }

    async fn clock(&self, here: &dyn Clock) -> Result<ClockReading, GuestError> {
        let (mut session, _) = Session::open(&self.socket, OPEN).await?;
        bounded("the guest's clock", compare(&mut session, here)).await
    }

    async fn set_clock(&self, here: &dyn Clock) -> Result<(), GuestError> {
        let (mut session, _) = Session::open(&self.socket, OPEN).await?;
        let set = async {
            let by_us = compare(&mut session, here).await?.behind_us;
            let id = EXCHANGES + 1;
            session.send(id, &Request::ClockStep { by_us }).await?;
            loop {
                match session.receive("setting the guest's clock").await? {
                    (of, Reply::Done) if of == id => return Ok(()),
                    (of, Reply::Failed { why }) if of == id => {
                        return Err(GuestError::Refused { why });
                    }
                    _ => {}
                }
            }
        };
        bounded("setting the guest's clock", set).await
    }
}

/// Exchanges that are made for one comparison; the quickest one is the most exact.
const EXCHANGES: u32 = 4;

/// Compares the clocks in an open session.
async fn compare(session: &mut Session, here: &dyn Clock) -> Result<ClockReading, GuestError> {
    let mut best: Option<ClockReading> = None;
    for id in 1..=EXCHANGES {
        let asked = here.now().as_microsecond();
        session.send(id, &Request::Clock).await?;
        let guest_us = loop {
            match session.receive("the guest's clock").await? {
                (of, Reply::Clock { unix_us }) if of == id => break unix_us,
                (of, Reply::Failed { why }) if of == id => return Err(GuestError::Refused { why }),
                (of, _) if of == id => return Err(unexpected("clock")),
                _ => {}
            }
        };
        let reading = ClockReading::of(guest_us, asked, here.now().as_microsecond());
        if best.is_none_or(|best| reading.round_trip < best.round_trip) {
            best = Some(reading);
        }
    }
    best.ok_or_else(|| unexpected("clock"))
}

/// Gives a conversation [`ANSWER`] to come to its end.
async fn bounded<T>(
    what: &str,
    conversation: impl Future<Output = Result<T, GuestError>>,
) -> Result<T, GuestError> {
    tokio::time::timeout(ANSWER, conversation)
        .await
        .unwrap_or_else(|_| {
            Err(GuestError::Deadline {
                what: what.to_owned(),
                deadline: ANSWER,
                last: None,
            })
        })
}

/// Carries a program's streams both ways until it ends.
async fn stream(mut session: Session, mut program: Program) -> Result<i32, GuestError> {
    session
        .send(
            1,
            &Request::Exec {
                argv: program.argv.clone(),
                stdin: program.stdin.is_some(),
            },
        )
        .await?;
    let mut unacknowledged = 0usize;
    let mut waiting: std::collections::VecDeque<Vec<u8>> = std::collections::VecDeque::new();
    let mut input = program.stdin.take();
    let mut end_due = input.is_some();
    loop {
        while unacknowledged < STDIN_WINDOW
            && let Some(piece) = waiting.pop_front()
        {
            session
                .send(1, &Request::Stdin { data: Bytes(piece) })
                .await?;
            unacknowledged += 1;
        }
        if end_due && input.is_none() && waiting.is_empty() && unacknowledged == 0 {
            session.send(1, &Request::StdinEnd).await?;
            end_due = false;
        }
        tokio::select! {
            reply = session.receive("a program") => match reply? {
                (1, Reply::Output { stderr, data }) => deliver(&program.output, stderr, data.0).await?,
                (1, Reply::Exited { code }) => return Ok(code),
                (1, Reply::StdinTaken) => unacknowledged = unacknowledged.saturating_sub(1),
                (1, Reply::Failed { why }) => return Err(GuestError::Refused { why }),
                _ => {}
            },
            piece = next(&mut input), if input.is_some() && waiting.is_empty() => match piece {
                Some(piece) => waiting.extend(piece.chunks(CHUNK_BYTES).map(<[u8]>::to_vec)),
                None => input = None,
            },
        }
    }
}

async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    input.as_mut()?.recv().await
}

async fn deliver(
    output: &mpsc::Sender<Output>,
    stderr: bool,
    data: Vec<u8>,
) -> Result<(), GuestError> {
    let piece = if stderr {
        Output::Stderr(data)
    } else {
        Output::Stdout(data)
    };
    output.send(piece).await.map_err(|_| GuestError::Gone {
        what: "a program; twin no longer reads its output".into(),
    })
}
