//! A holder: the process that stands for a service or an instance.
//!
//! ```text
//!   twin-guest hold NAME MIB now|later ADJ [ADDRESS:PORT/SECONDS] PORT..
//!   stdout: "listening" (ports are bound), "touched" (every page has been written)
//!   stdin:  "touch"     (write to every page now); end of file: exit
//! ```

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::get::ask;
use crate::keep::locked;

/// The kernel's page size on `x86_64`.
const PAGE_BYTES: usize = 4096;

/// A client that says nothing for this long is dropped.
const CLIENT_DEADLINE: Duration = Duration::from_secs(5);

/// Runs until standard input ends, which it does with the agent.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [name, mib, when, adj, rest @ ..] = arguments else {
        return Err("hold takes NAME MIB now|later ADJ [ADDRESS:PORT/SECONDS] PORT..".into());
    };
    let mib: usize = mib
        .parse()
        .map_err(|_| format!("hold: {mib} is no number of MiB"))?;
    become_process(name, adj)?;
    // What it polls, where it does, stands before the ports.
    let (polls, ports) = match rest.split_first() {
        Some((first, ports)) if first.contains('/') => (Some(first), ports),
        _ => (None, rest),
    };
    let start = |polls: &String| {
        Polling::start(polls).ok_or_else(|| format!("hold {name}: what is {polls}?"))
    };
    let polling = polls.map(start).transpose()?;
    for port in ports {
        let port = port
            .parse()
            .map_err(|_| format!("hold {name}: {port} is no port"))?;
        listen(name, port, polling.clone())?;
    }
    tell("listening");

    let mut memory = vec![0u8; mib << 20];
    if when == "now" {
        touch(&mut memory);
        tell("touched");
    }
    for line in std::io::stdin().lock().lines() {
        if line.is_ok_and(|line| line == "touch") {
            touch(&mut memory);
            tell("touched");
        }
    }
    // Reading the memory here keeps the compiler from letting go of it before standard input ends.
    std::hint::black_box(&memory);
    Ok(())
}

/// Takes the process name, cut at the kernel's 15 characters, and the OOM score adjustment.
fn become_process(name: &str, adj: &str) -> Result<(), String> {
    let comm: String = name.chars().take(15).collect();
    let comm = std::ffi::CString::new(comm).map_err(|_| "hold: a name has no NUL".to_owned())?;
    nix::sys::prctl::set_name(&comm)
        .map_err(|error| format!("hold {name}: cannot take the name: {error}"))?;
    std::fs::write("/proc/self/oom_score_adj", adj)
        .map_err(|error| format!("hold {name}: cannot set oom_score_adj: {error}"))
}

/// Writes a value of its own into every page, so that none stays the shared zero page or can be merged with another.
fn touch(memory: &mut [u8]) {
    for (index, page) in memory.chunks_mut(PAGE_BYTES).enumerate() {
        if let Some(word) = page.first_chunk_mut::<8>() {
            *word = (index as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_ne_bytes();
        }
    }
    std::hint::black_box(&memory);
}

fn tell(word: &str) {
    let mut out = std::io::stdout().lock();
    // Ignored: the reader has gone, and standard input ends too.
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
}

/// What a service polls, and when that last answered. Cloning shares it.
#[derive(Clone, Debug)]
struct Polling {
    address: SocketAddrV4,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    last: Option<Instant>,
    /// Whether the newest attempt failed; nothing before the first has ended.
    stale: Option<bool>,
}

impl Polling {
    /// Polls for as long as the process lives.
    fn start(polls: &str) -> Option<Self> {
        let (address, seconds) = polls.split_once('/')?;
        let every = Duration::from_secs(seconds.parse().ok()?);
        let polling = Self {
            address: address.parse().ok()?,
            heard: Arc::default(),
        };
        let of_thread = polling.clone();
        std::thread::spawn(move || {
            loop {
                let heard = ask(of_thread.address.into(), CLIENT_DEADLINE, "/");
                let answered =
                    heard.is_ok_and(|answer| answer.is_some_and(|text| !text.is_empty()));
                {
                    let mut heard = locked(&of_thread.heard);
                    heard.stale = Some(!answered);
                    if answered {
                        heard.last = Some(Instant::now());
                    }
                }
                std::thread::sleep(every);
            }
        });
        Some(polling)
    }

    /// As members of a JSON document. What was heard last is kept, as Magnum keeps it, so it is stale once polling fails.
    fn members(&self) -> String {
        let heard = *locked(&self.heard);
        let (ago, stale) = (heard.last.map(|last| last.elapsed().as_secs()), heard.stale);
        let [ago, stale] = [
            ago.map(|ago| ago.to_string()),
            stale.map(|stale| stale.to_string()),
        ]
        .map(|known| known.unwrap_or_else(|| "null".to_owned()));
        format!(
            ",\"polls\":\"{}\",\"stale\":{stale},\"heard_s_ago\":{ago}",
            self.address
        )
    }
}

fn listen(name: &str, port: u16, polling: Option<Polling>) -> Result<(), String> {
    let listener = TcpListener::bind(("0.0.0.0", port))
        .map_err(|error| format!("hold {name}: port {port}: {error}"))?;
    let name = name.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let polled = polling.as_ref().map(Polling::members).unwrap_or_default();
            let answer = format!("{{\"service\":\"{name}\",\"port\":{port}{polled}}}\n");
            serve(client, &answer);
        }
    });
    Ok(())
}

/// Answers one request and closes.
fn serve(mut client: TcpStream, answer: &str) {
    let mut request = [0u8; 2048];
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    // A client that leaves early is no fault of the service.
    let _ = client
        .set_read_timeout(Some(CLIENT_DEADLINE))
        .and_then(|()| client.read(&mut request))
        .and_then(|_| client.write_all(head.as_bytes()))
        .and_then(|()| client.write_all(answer.as_bytes()));
}
