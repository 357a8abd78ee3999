//! One GET over HTTP, and how it was answered: what a probe from inside a guest asks. Guests need no other client for it.
//!
//! ```text
//! twin-guest get ADDRESS PORT SECONDS PATH
//!   stdout: "timed-out"; or "answered" and, from the next line on, what came, headers included, which may be nothing
//! ```

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The most that is read of an answer.
const MOST_BYTES: usize = 256 << 10;

/// Asks once and writes what was answered.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let usage = || "get takes ADDRESS PORT SECONDS PATH".to_owned();
    let [address, port, seconds, path] = arguments else {
        return Err(usage());
    };
    let address: Ipv4Addr = address.parse().map_err(|_| usage())?;
    let port: u16 = port.parse().map_err(|_| usage())?;
    let within = Duration::from_secs(seconds.parse().map_err(|_| usage())?);
    let answer = ask(SocketAddr::from((address, port)), within, path);
    match answer.map_err(|error| format!("get: {error}"))? {
        None => crate::say("timed-out"),
        Some(answer) => {
            crate::say("answered");
            // Ignored: the reader has gone.
            let _ = std::io::stdout().write_all(&answer);
        }
    }
    Ok(())
}

/// Version 1.0: the answer ends with the connection. Nothing where that did not come in time.
pub(crate) fn ask(
    to: SocketAddr,
    within: Duration,
    path: &str,
) -> std::io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + within;
    let mut stream = TcpStream::connect_timeout(&to, within)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", to.ip()).as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0u8; 8192]);
    while answer.len() < MOST_BYTES {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            // It closed without a word, or in the middle of one.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Some(answer))
}
