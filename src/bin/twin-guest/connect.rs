//! One TCP connection, and how it went: what a probe from inside a guest asks.
//!
//! ```text
//! twin-guest connect ADDRESS PORT SECONDS [SOURCE]
//!   stdout: "open", "refused", "timed-out", or "unreachable: WHY"
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockopt, socket, sockopt,
};

/// Tries once and says how it went; fails only where it was not asked rightly.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let usage = || "connect takes ADDRESS PORT SECONDS [SOURCE]".to_owned();
    let (address, port, seconds, source) = match arguments {
        [address, port, seconds] => (address, port, seconds, None),
        [address, port, seconds, source] => (address, port, seconds, Some(source)),
        _ => return Err(usage()),
    };
    let address: Ipv4Addr = address.parse().map_err(|_| usage())?;
    let port: u16 = port.parse().map_err(|_| usage())?;
    let within = Duration::from_secs(seconds.parse().map_err(|_| usage())?);
    let source: Option<Ipv4Addr> = source
        .map(|text| text.parse())
        .transpose()
        .map_err(|_| usage())?;
    let stream = from(source).map_err(|error| match source {
        Some(source) => format!("nothing can be sent as {source}: {error}"),
        None => error.to_string(),
    })?;
    crate::say(&match attempt(&stream, address, port, within) {
        Ok(true) => "open".to_owned(),
        Ok(false) | Err(Errno::ETIMEDOUT) => "timed-out".to_owned(),
        Err(Errno::ECONNREFUSED) => "refused".to_owned(),
        Err(error) => format!("unreachable: {error}"),
    });
    Ok(())
}

/// What connects, from an address of this host where one is given.
fn from(source: Option<Ipv4Addr>) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let stream = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    if let Some(source) = source {
        bind(
            stream.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )?;
    }
    Ok(stream)
}

/// Connects; false where nothing came back in time.
fn attempt(
    stream: &OwnedFd,
    address: Ipv4Addr,
    port: u16,
    within: Duration,
) -> Result<bool, Errno> {
    let to = SockaddrIn::from(SocketAddrV4::new(address, port));
    match connect(stream.as_raw_fd(), &to) {
        Ok(()) => return Ok(true),
        Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut waiting, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    match getsockopt(stream, sockopt::SocketError)? {
        0 => Ok(true),
        code => Err(Errno::from_raw(code)),
    }
}
