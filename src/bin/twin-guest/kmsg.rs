//! The kernel's log: reading it, and writing a line of our own into it.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use twin::wire::KernelLine;

/// A record of /dev/kmsg is at most this long (kernel: `PRINTK_MESSAGE_MAX`).
const RECORD_BYTES: usize = 8192;

/// What one reply may hold, well under a frame.
const REPLY_BYTES: usize = 96 * 1024;

/// Writes a line into the kernel's log, so that it stands on the serial console beside the kernel's own words.
pub(crate) fn say(text: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // Nowhere is left to report a log that cannot be written.
        let _ = log.write_all(format!("<5>twin-guest: {text}\n").as_bytes());
    }
}

/// Returns the records after sequence number `after`, as many as fit one reply.
pub(crate) fn since(after: u64) -> Result<Vec<KernelLine>, String> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg")
        .map_err(|error| format!("cannot open /dev/kmsg: {error}"))?;
    let mut lines = Vec::new();
    let mut size = 0;
    let mut record = [0u8; RECORD_BYTES];
    while size < REPLY_BYTES {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let Some(line) = parse(&String::from_utf8_lossy(&record[..length])) else {
                    continue;
                };
                if line.sequence > after || (after == 0 && line.sequence == 0) {
                    size += line.text.len() + 64;
                    lines.push(line);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            // The ring buffer overtook the reader: the next read continues at the oldest record.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(error) => return Err(format!("cannot read /dev/kmsg: {error}")),
        }
    }
    Ok(lines)
}

/// Parses `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,..];TEXT\n[ KEY=VALUE\n..]` (kernel: Documentation/ABI/testing/dev-kmsg).
fn parse(record: &str) -> Option<KernelLine> {
    let (head, rest) = record.split_once(';')?;
    let mut fields = head.split(',').skip(1);
    Some(KernelLine {
        sequence: fields.next()?.parse().ok()?,
        at_us: fields.next()?.parse().ok()?,
        text: rest.split('\n').next()?.to_owned(),
    })
}
