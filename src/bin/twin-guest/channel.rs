//! The virtio-serial port to twin.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twin::wire::{CHANNEL, Decoder, Frame, Reply, Request, encode};

use crate::keep::locked;

/// While no client is connected, reads return at once with nothing; the port is looked at this often.
const IDLE_PAUSE: Duration = Duration::from_millis(25);

/// The way back to the client that asked.
#[derive(Clone)]
pub(crate) struct Outlet {
    port: Arc<Mutex<File>>,
    pub(crate) session: u64,
    pub(crate) id: u32,
}

impl Outlet {
    /// Sends one reply. A client that has gone misses it.
    pub(crate) fn send(&self, reply: &Reply) {
        let frame = Frame {
            session: self.session,
            id: self.id,
            body: reply,
        };
        let line = encode(&frame).or_else(|error| {
            encode(&Frame {
                session: self.session,
                id: self.id,
                body: &Reply::Failed {
                    why: error.to_string(),
                },
            })
        });
        if let Ok(line) = line {
            let _ = locked(&self.port).write_all(&line);
        }
    }
}

/// Finds the port by its name.
fn find() -> Option<String> {
    fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let name = fs::read_to_string(entry.path().join("name")).ok()?;
            (name.trim() == CHANNEL)
                .then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
        })
}

/// Serves requests for ever. `on_request` gets each one; `on_gone` is called when a client has left.
pub(crate) fn serve(
    mut on_request: impl FnMut(Outlet, Request),
    mut on_gone: impl FnMut(),
) -> Result<(), String> {
    let path = find().ok_or_else(|| format!("there is no virtio-serial port {CHANNEL}"))?;
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| format!("cannot open {path}: {error}"))
    };
    let mut reader = open()?;
    // One open file: the port can be opened only once.
    let port = Arc::new(Mutex::new(
        reader
            .try_clone()
            .map_err(|error| format!("cannot clone {path}: {error}"))?,
    ));
    let mut decoder = Decoder::default();
    let mut piece = vec![0u8; 64 * 1024];
    let mut connected = false;
    loop {
        match reader.read(&mut piece) {
            Ok(length @ 1..) => {
                connected = true;
                for frame in decoder.feed::<Request>(&piece[..length]) {
                    on_request(
                        Outlet {
                            port: Arc::clone(&port),
                            session: frame.session,
                            id: frame.id,
                        },
                        frame.body,
                    );
                }
            }
            Ok(0) | Err(_) => {
                if std::mem::take(&mut connected) {
                    decoder = Decoder::default();
                    on_gone();
                }
                std::thread::sleep(IDLE_PAUSE);
            }
        }
    }
}
