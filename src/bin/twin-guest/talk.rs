//! Numbered messages between hosts: what shows whether a baseline is one cut.
//!
//! ```text
//!   twin-guest talk ADDRESS..          talks to the twin-guests at these addresses, for ever
//!   /run/talk.json                     what it knows, rewritten all the time
//! ```
//!
//! Each datagram carries its own number and the last number that came from the other side. A host that gets a number it
//! knows already, or hears of one of its own that it has not sent, has seen two moments that never were together. A TCP
//! connection to each address is kept open beside it, and counted when it breaks.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// Ports of the datagrams and of the connections.
const DATAGRAMS: u16 = 7700;
const CONNECTIONS: u16 = 7701;

/// Between two messages to one address.
const PACE: Duration = Duration::from_millis(25);

/// Between two rewrites of the file.
const WRITE_PACE: Duration = Duration::from_millis(200);

/// Between two tries to connect for the first time.
const RETRY: Duration = Duration::from_millis(200);

/// Where what is known is written.
const FILE: &str = "/run/talk.json";

/// What is known of one address.
#[derive(Clone, Debug, Default, Serialize)]
struct Known {
    sent: u64,
    received: u64,
    /// Messages whose numbers had come before.
    repeated: u64,
    /// Messages that told of one that this host has not sent.
    unsent: u64,
    /// Rounds over the connection.
    rounds: u64,
    /// Whether the connection broke.
    broken: bool,
}

type Book = Arc<Mutex<BTreeMap<Ipv4Addr, Known>>>;

fn open(book: &Book) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Known>> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Talks to the addresses.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let addresses: Result<Vec<Ipv4Addr>, _> = arguments.iter().map(|word| word.parse()).collect();
    let addresses = addresses.map_err(|error| format!("talk takes addresses: {error}"))?;
    let said = |what: &'static str| move |error: std::io::Error| format!("talk: {what}: {error}");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DATAGRAMS)).map_err(said("binding"))?;
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, CONNECTIONS)).map_err(said("listening"))?;
    let book: Book = Arc::default();
    for address in &addresses {
        open(&book).entry(*address).or_default();
    }
    std::thread::spawn(move || echo(&listener));
    for address in addresses {
        let (socket, pages) = (
            socket.try_clone().map_err(said("a socket"))?,
            Arc::clone(&book),
        );
        std::thread::spawn(move || send(&socket, address, &pages));
        let pages = Arc::clone(&book);
        std::thread::spawn(move || connect(address, &pages));
    }
    let pages = Arc::clone(&book);
    std::thread::spawn(move || receive(&socket, &pages));
    loop {
        let text = serde_json::to_vec(&*open(&book)).unwrap_or_default();
        let draft = format!("{FILE}.draft");
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, FILE))
            .map_err(said("writing"))?;
        std::thread::sleep(WRITE_PACE);
    }
}

fn send(socket: &UdpSocket, address: Ipv4Addr, book: &Book) {
    loop {
        let message = {
            let mut pages = open(book);
            let known = pages.entry(address).or_default();
            known.sent += 1;
            [known.sent.to_be_bytes(), known.received.to_be_bytes()].concat()
        };
        // A datagram that cannot be sent is lost like any other.
        let _ = socket.send_to(&message, (address, DATAGRAMS));
        std::thread::sleep(PACE);
    }
}

fn receive(socket: &UdpSocket, book: &Book) {
    let mut bytes = [0; 16];
    loop {
        let Ok((16, SocketAddr::V4(from))) = socket.recv_from(&mut bytes) else {
            continue;
        };
        let half = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |n, byte| n << 8 | u64::from(*byte))
        };
        let (number, heard) = (half(0), half(8));
        let mut pages = open(book);
        let known = pages.entry(*from.ip()).or_default();
        known.repeated += u64::from(number <= known.received);
        known.unsent += u64::from(heard > known.sent);
        known.received = known.received.max(number);
    }
}

/// Answers each connection's bytes with the same bytes.
fn echo(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut stream = stream;
            let mut bytes = [0; 8];
            while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
        });
    }
}

fn connect(address: Ipv4Addr, book: &Book) {
    let mut stream = loop {
        match TcpStream::connect((IpAddr::V4(address), CONNECTIONS)) {
            Ok(stream) => break stream,
            // The other side may not listen yet.
            Err(_) => std::thread::sleep(RETRY),
        }
    };
    let mut round = || -> std::io::Result<()> {
        let number = open(book).entry(address).or_default().rounds + 1;
        stream.write_all(&number.to_be_bytes())?;
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        if u64::from_be_bytes(bytes) != number {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        open(book).entry(address).or_default().rounds = number;
        Ok(())
    };
    while round().is_ok() {
        std::thread::sleep(PACE);
    }
    open(book).entry(address).or_default().broken = true;
}
