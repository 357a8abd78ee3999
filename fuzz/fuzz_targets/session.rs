//! A guest that answers whatever it likes, in frames of the session that it was asked in.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use twin::clock::SystemClock;
use twin::guest::{Guest, TwinGuest, collect};
use twin::wire::Request;

struct Rig {
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
    listener: UnixListener,
    guest: TwinGuest,
}

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(Rig::new());
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let socket = directory.path().join("s");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(async { UnixListener::bind(&socket).expect("bound") });
        Self {
            runtime,
            _directory: directory,
            listener,
            guest: TwinGuest::new(socket),
        }
    }
}

const HELLO: &str = r#"{"hello":{"protocol":1,"boot_id":"b","hostname":"h","uptime_ms":1,"ready":true,"problems":[]}}"#;

/// Answers one connection: a hello that is right, then each line of `bodies` as the body of a frame, and the end.
async fn answer(listener: &UnixListener, bodies: &[u8]) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.is_err() {
            continue;
        }
        let hello: serde_json::Value = serde_json::from_slice(&line).unwrap_or_default();
        let session = hello["session"].as_u64().unwrap_or_default();
        let mut said = format!("{{\"session\":{session},\"id\":0,\"body\":{HELLO}}}\n").into_bytes();
        for body in bodies.split(|byte| *byte == b'\n') {
            said.extend(format!("{{\"session\":{session},\"id\":1,\"body\":").bytes());
            said.extend(body);
            said.extend(b"}\n");
        }
        // The other side may have heard enough.
        let _ = stream.write_all(&said).await;
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bodies) = input;
    RIG.with_borrow(|rig| {
        rig.runtime.block_on(async {
            let guest = &rig.guest;
            let asks = async {
                match which % 5 {
                    0 => drop(guest.state().await),
                    1 => drop(guest.ask(Request::PowerOff).await),
                    2 => drop(guest.clock(&SystemClock::default()).await),
                    3 => drop(collect(guest, &["true"], Duration::from_secs(1)).await),
                    _ => drop(guest.greet(Duration::from_secs(1)).await),
                }
            };
            tokio::select! {
                () = asks => {}
                () = answer(&rig.listener, bodies) => {}
            }
        });
    });
});
