//! The seam into the guests: [`Guest`].
//!
//! Two ways are built: [`TwinGuest`] talks to twin-guest on its virtio-serial channel, [`Ssh`] runs programs over SSH in
//! guests that have no twin-guest.

mod error;
mod session;
mod ssh;
mod twin_guest;

pub use error::GuestError;
pub use ssh::{Ssh, make_key, pin};
pub use twin_guest::TwinGuest;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::wire::{GuestState, KernelLine, Request};

/// A guest that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The kernel's `boot_id`.
    pub boot_id: String,
    /// Its host name.
    pub hostname: String,
    /// Time since its kernel started.
    pub uptime: Duration,
    /// What it could not set up.
    pub problems: Vec<String>,
}

/// What a program in a guest writes, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
}

/// A program to run.
#[derive(Debug)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its standard input, where it has one; closed when the sender is dropped.
    pub stdin: Option<mpsc::Receiver<Vec<u8>>>,
    /// Where its output goes.
    pub output: mpsc::Sender<Output>,
}

/// What a comparison of clocks came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// How far the guest's clock is behind, in microseconds; negative where it is ahead. Wrong by at most half of
    /// `round_trip`.
    pub behind_us: i64,
    /// How long the question took.
    pub round_trip: Duration,
}

impl ClockReading {
    /// Of a guest that answered `guest_us`, asked at `asked`, with the answer in hand at `answered`; all in
    /// microseconds since 1970.
    pub const fn of(guest_us: i64, asked: i64, answered: i64) -> Self {
        let round_trip = answered.saturating_sub(asked);
        Self {
            behind_us: asked
                .saturating_add(round_trip / 2)
                .saturating_sub(guest_us),
            round_trip: Duration::from_micros(round_trip.unsigned_abs()),
        }
    }

    /// In milliseconds.
    pub const fn behind_ms(self) -> i64 {
        self.behind_us / 1000
    }
}

/// A way into one guest. Each call opens its own session and gives up at its deadline.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Waits until the guest answers.
    async fn greet(&self, deadline: Duration) -> Result<Greeting, GuestError>;

    /// Runs a program; returns its exit code. Its time is not bounded here: the caller drops the call to end it.
    async fn run(&self, program: Program) -> Result<i32, GuestError>;

    /// Reads twin-guest's state.
    async fn state(&self) -> Result<GuestState, GuestError>;

    /// Has twin-guest carry something out.
    async fn ask(&self, request: Request) -> Result<(), GuestError>;

    /// Reads the kernel's log from `after` on.
    async fn kernel_log(&self, after: u64) -> Result<Vec<KernelLine>, GuestError>;

    /// Compares the guest's clock with this machine's.
    async fn clock(&self, here: &dyn Clock) -> Result<ClockReading, GuestError>;

    /// Sets the guest's clock to this machine's.
    async fn set_clock(&self, here: &dyn Clock) -> Result<(), GuestError>;
}

/// Runs a short program and collects its output, at most [`COLLECT_BYTES`] of it.
pub async fn collect(
    guest: &dyn Guest,
    argv: &[&str],
    deadline: Duration,
) -> Result<(i32, Vec<u8>, Vec<u8>), GuestError> {
    let (sender, mut receiver) = mpsc::channel(16);
    let program = Program {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        stdin: None,
        output: sender,
    };
    let gather = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(output) = receiver.recv().await {
            let (kind, data) = match output {
                Output::Stdout(data) => (&mut stdout, data),
                Output::Stderr(data) => (&mut stderr, data),
            };
            let room = COLLECT_BYTES.saturating_sub(kind.len());
            kind.extend_from_slice(&data[..data.len().min(room)]);
        }
        (stdout, stderr)
    };
    let both = async { tokio::join!(guest.run(program), gather) };
    match tokio::time::timeout(deadline, both).await {
        Ok((code, (stdout, stderr))) => Ok((code?, stdout, stderr)),
        Err(_) => Err(GuestError::Deadline {
            what: format!("running {}", argv.first().unwrap_or(&"a program")),
            deadline,
            last: None,
        }),
    }
}

/// What [`collect`] keeps of each stream.
pub const COLLECT_BYTES: usize = 64 << 20;
