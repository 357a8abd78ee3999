//! One session on twin-guest's channel.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::GuestError;
use crate::wire::{Decoder, Frame, Reply, Request, encode};

/// How long is waited between two tries to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// An open session. Dropping it closes the socket, and the guest kills what the session ran.
pub(super) struct Session {
    stream: UnixStream,
    decoder: Decoder,
    ready: std::collections::VecDeque<(u32, Reply)>,
    number: u64,
    buffer: Vec<u8>,
}

fn gone(what: &str) -> GuestError {
    GuestError::Gone {
        what: what.to_owned(),
    }
}

impl Session {
    /// Connects and says hello, again and again until the guest answers or `deadline` has passed.
    pub(super) async fn open(
        socket: &Path,
        deadline: Duration,
    ) -> Result<(Self, Reply), GuestError> {
        let mut last = "nothing was tried".to_owned();
        let tries = async {
            loop {
                match Self::attempt(socket).await {
                    Ok(session) => return session,
                    Err(error) => last = error.to_string(),
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        let what = "waiting for the guest's answer";
        match tokio::time::timeout(deadline, tries).await {
            Ok(opened) => Ok(opened),
            Err(_) if last.contains("No such file") || last.contains("refused") => {
                Err(GuestError::Unreachable { why: last })
            }
            Err(_) => {
                let last = if last == "nothing was tried" {
                    "the channel is open, and nothing answers on it (or another twin holds it)"
                        .into()
                } else {
                    last
                };
                Err(GuestError::Deadline {
                    what: what.to_owned(),
                    deadline,
                    last: Some(last),
                })
            }
        }
    }

    async fn attempt(socket: &Path) -> std::io::Result<(Self, Reply)> {
        let stream = UnixStream::connect(socket).await?;
        let number = uuid::Uuid::new_v4().as_u64_pair().0;
        let mut session = Self {
            stream,
            decoder: Decoder::default(),
            ready: std::collections::VecDeque::new(),
            number,
            buffer: vec![0; 64 * 1024],
        };
        session
            .send(0, &Request::Hello)
            .await
            .map_err(std::io::Error::other)?;
        let (_, hello) = session
            .receive("hello")
            .await
            .map_err(std::io::Error::other)?;
        Ok((session, hello))
    }

    /// Sends one request.
    pub(super) async fn send(&mut self, id: u32, request: &Request) -> Result<(), GuestError> {
        let frame = Frame {
            session: self.number,
            id,
            body: request,
        };
        let line = encode(&frame).map_err(|error| GuestError::Refused {
            why: error.to_string(),
        })?;
        self.stream
            .write_all(&line)
            .await
            .map_err(|_| gone("a request"))
    }

    /// Returns the next reply of this session. Safe to drop while it waits.
    pub(super) async fn receive(&mut self, what: &str) -> Result<(u32, Reply), GuestError> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(next);
            }
            let length = self
                .stream
                .read(&mut self.buffer)
                .await
                .map_err(|_| gone(what))?;
            if length == 0 {
                return Err(gone(what));
            }
            let own = self.number;
            let frames = self.decoder.feed::<Reply>(&self.buffer[..length]);
            self.ready.extend(
                frames
                    .into_iter()
                    .filter(|frame| frame.session == own)
                    .map(|frame| (frame.id, frame.body)),
            );
        }
    }
}
