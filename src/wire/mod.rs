//! The messages between twin on the jumphost and twin-guest inside a lab's guests.
//!
//! The carrier is one virtio-serial port a guest, named [`CHANNEL`]. QEMU listens on a Unix socket; one client at a
//! time holds it. Each frame is one line of JSON of at most [`MAX_FRAME_BYTES`], ended by a line feed, so that a reader
//! that starts in the middle of a stream finds the next frame by itself.
//!
//! A client picks a random session number and puts it into each frame. Bytes that an earlier client left in the pipe
//! carry another session and are dropped by both sides.
//!
//! ```text
//! twin                                guest
//!   Hello            id 0   ->
//!                           <-  id 0  Hello {boot_id, ..}
//!   Exec             id 1   ->
//!   Stdin, StdinEnd  id 1   ->
//!                           <-  id 1  Output ..
//!                           <-  id 1  Exited
//! ```

mod config;
mod state;

pub use config::{ComputeConfig, HostConfig, InstanceConfig, NicConfig, ServiceConfig};
pub use state::{
    GuestState, InstanceState, KernelLine, MemoryReading, MemoryState, NovaStatus, ProcessState,
    ServiceState, VmState,
};

use serde::{Deserialize, Serialize};

/// The name of the virtio-serial port.
pub const CHANNEL: &str = "org.twin.guest.0";

/// The `fw_cfg` file that carries a guest's [`HostConfig`] as base64 of JSON.
pub const FW_CFG_NAME: &str = "opt/org.twin/host";

/// The largest frame, line feed included.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// The largest piece of a stream in one frame, before base64.
pub const CHUNK_BYTES: usize = 48 * 1024;

/// How many [`Request::Stdin`] frames a client may have sent without a [`Reply::StdinTaken`].
pub const STDIN_WINDOW: usize = 4;

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;

/// One message on the channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame<B> {
    /// The client's session.
    pub session: u64,
    /// The request that this belongs to; chosen by the client.
    pub id: u32,
    /// What is said.
    pub body: B,
}

/// What twin asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Opens a session.
    Hello,
    /// Runs a program; streams follow under the same id.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Whether [`Request::Stdin`] frames will come. Without, standard input is empty.
        stdin: bool,
    },
    /// A piece of standard input for the program of the same id.
    Stdin {
        /// The bytes.
        data: Bytes,
    },
    /// The end of standard input for the program of the same id.
    StdinEnd,
    /// Kills the program of the same id.
    Kill,
    /// Asks for [`Reply::State`].
    State,
    /// Replaces the configuration and applies what can be applied while running: services, time scale, nova-compute.
    Configure(Box<HostConfig>),
    /// Makes exactly these of the configured services run.
    ServicesRun {
        /// Names of configured services.
        names: Vec<String>,
    },
    /// Sets nova-compute's `reserved_host_memory_mb`.
    ComputeReserve {
        /// Full-size MiB.
        reserved_mib: u64,
    },
    /// Sets nova-compute's `resume_guests_state_on_host_boot`, which lasts over reboots.
    ComputeResume {
        /// Whether instances that are recorded ACTIVE are started when the host boots.
        resume: bool,
    },
    /// Creates and starts an instance.
    InstanceBoot(InstanceConfig),
    /// Removes an instance and kills its process.
    InstanceDelete {
        /// Its name.
        name: String,
    },
    /// Starts an instance that is SHUTOFF, with its memory untouched.
    InstanceStart {
        /// Its name.
        name: String,
    },
    /// Stops an instance through the API: `vm_state` STOPPED.
    InstanceStop {
        /// Its name.
        name: String,
    },
    /// Has an instance's process write to all of its memory, in the background; progress shows in [`GuestState`].
    InstanceTouch {
        /// Its name.
        name: String,
    },
    /// Asks for kernel log records from `after` on.
    KernelLog {
        /// The sequence number of the last record already known; 0 for all.
        after: u64,
    },
    /// Asks for [`Reply::Clock`].
    Clock,
    /// Moves the guest's clock.
    ClockStep {
        /// By so many microseconds; negative moves it back.
        by_us: i64,
    },
    /// Powers the guest off cleanly: services and instances stop, file systems are synced.
    PowerOff,
}

/// What the guest answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The session is open.
    Hello {
        /// [`PROTOCOL`] of the guest.
        protocol: u32,
        /// The kernel's `boot_id`: another one means that the guest has booted anew.
        boot_id: String,
        /// The guest's host name.
        hostname: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
        /// Whether the guest has finished setting itself up.
        ready: bool,
        /// What could not be set up, a line each.
        problems: Vec<String>,
    },
    /// A piece of a program's output.
    Output {
        /// Standard error instead of standard output.
        stderr: bool,
        /// The bytes.
        data: Bytes,
    },
    /// One [`Request::Stdin`] frame was written to the program, or dropped because the program closed its input.
    StdinTaken,
    /// A program ended.
    Exited {
        /// Its exit code; 128 plus the signal where one killed it.
        code: i32,
    },
    /// The guest's state.
    State(Box<GuestState>),
    /// Kernel log records.
    KernelLog {
        /// In order; at most what fits a frame. Ask again from the last one's sequence number.
        lines: Vec<KernelLine>,
    },
    /// The guest's clock.
    Clock {
        /// Microseconds since 1970.
        unix_us: i64,
    },
    /// Done.
    Done,
    /// The request could not be carried out.
    Failed {
        /// Why, as a fragment.
        why: String,
    },
}

/// Bytes, as base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A frame could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The message does not fit [`MAX_FRAME_BYTES`].
    #[error("a message of {0} bytes is over the channel's limit of {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// The message is not representable as JSON.
    #[error("a message cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Encodes one frame, line feed included.
pub fn encode<B: Serialize>(frame: &Frame<B>) -> Result<Vec<u8>, EncodeError> {
    let mut line = serde_json::to_vec(frame)?;
    line.push(b'\n');
    if line.len() > MAX_FRAME_BYTES {
        return Err(EncodeError::TooLong(line.len()));
    }
    Ok(line)
}

/// Cuts a byte stream into frames; what is no frame is dropped.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    skipping: bool,
}

impl Decoder {
    /// Takes bytes in and returns the frames that they complete, in order.
    pub fn feed<B: for<'de> Deserialize<'de>>(&mut self, bytes: &[u8]) -> Vec<Frame<B>> {
        let mut frames = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if !self.skipping {
                self.pending.extend_from_slice(piece);
            }
            if self.pending.len() > MAX_FRAME_BYTES {
                self.pending.clear();
                self.skipping = true;
            }
            if ends {
                if !self.skipping
                    && let Ok(frame) = serde_json::from_slice(&self.pending)
                {
                    frames.push(frame);
                }
                self.pending.clear();
                self.skipping = false;
            }
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(session: u64) -> Frame<Request> {
        Frame {
            session,
            id: 0,
            body: Request::Hello,
        }
    }

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let frames = [
            hello(1),
            Frame {
                session: 1,
                id: 4,
                body: Request::Stdin {
                    data: Bytes((0..=255).collect()),
                },
            },
        ];
        let stream: Vec<u8> = frames
            .iter()
            .flat_map(|frame| encode(frame).expect("fits"))
            .collect();
        for cut in 0..stream.len() {
            let mut decoder = Decoder::default();
            let mut got = decoder.feed::<Request>(&stream[..cut]);
            got.extend(decoder.feed::<Request>(&stream[cut..]));
            assert_eq!(got, frames, "cut at {cut}");
        }
    }

    #[test]
    fn a_reader_that_starts_in_the_middle_finds_the_next_frame() {
        let mut stream = encode(&hello(1)).expect("fits").split_off(7);
        stream.extend(encode(&hello(2)).expect("fits"));
        assert_eq!(Decoder::default().feed::<Request>(&stream), [hello(2)]);
    }

    #[test]
    fn an_endless_line_takes_no_memory_and_the_next_frame_is_read() {
        let mut decoder = Decoder::default();
        for _ in 0..64 {
            assert!(decoder.feed::<Request>(&vec![b'x'; 65_536]).is_empty());
            assert!(decoder.pending.len() <= MAX_FRAME_BYTES);
        }
        let mut rest = b"\n".to_vec();
        rest.extend(encode(&hello(3)).expect("fits"));
        assert_eq!(decoder.feed::<Request>(&rest), [hello(3)]);
    }

    #[test]
    fn a_full_chunk_fits_a_frame_and_more_is_refused() {
        let chunk = |len| Frame {
            session: u64::MAX,
            id: u32::MAX,
            body: Request::Stdin {
                data: Bytes(vec![7; len]),
            },
        };
        assert!(encode(&chunk(CHUNK_BYTES)).is_ok());
        assert!(matches!(
            encode(&chunk(MAX_FRAME_BYTES)),
            Err(EncodeError::TooLong(_))
        ));
    }
}
