//! HTTP, as far as twin asks: a look at a service, and a download. http and https only, every answer bounded in size and time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};

/// A server that a download comes from may lead on so often.
const REDIRECTS: u32 = 5;

/// A server takes the connection, and begins to answer, within this.
const CONNECT: Duration = Duration::from_secs(30);

/// Until an answer begins.
const STALL: Duration = Duration::from_secs(60);

/// How often a download that broke off is gone on with, and between two tries.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// What is read at once.
const PIECE: usize = 1 << 16;

/// The answer to a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status; 0 where the answer was not HTTP; `body` has it then.
    pub status: u16,
    /// The body, or its beginning.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// None came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// No connection came about, or it broke.
    #[error("{0}")]
    Failed(String),
}

/// What bounds a download.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// All of it, further tries included.
    pub time: Duration,
}

/// Why a download did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The URL is none that twin asks.
    #[error("{url} is not a URL that begins with http:// or https://")]
    Url {
        /// As it was given.
        url: String,
    },
    /// The server refused.
    #[error("the server answers {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The file is larger than it may be.
    #[error("it has more than {most} bytes")]
    TooLarge {
        /// The limit.
        most: u64,
    },
    /// It did not end in time.
    #[error("it did not end within {0:?}")]
    TimedOut(Duration),
    /// The caller gave it up.
    #[error("it was given up")]
    Stopped,
    /// The connection failed, again and again.
    #[error("{0}")]
    Failed(String),
    /// The file cannot be written.
    #[error("writing it: {0}")]
    Io(#[from] io::Error),
}

/// Whether a text is a URL that twin asks: http or https, with a host.
pub fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let plain = |host: &str| !host.is_empty() && !host.starts_with('-');
    host.is_some_and(plain) && !text.contains(|one: char| one.is_whitespace() || one.is_control())
}

/// Asks once, follows no redirect, and reads at most `most` bytes of the body. Blocks for at most `within`.
pub fn get(url: &str, within: Duration, most: usize) -> Result<Answer, HttpError> {
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .build()
        .into();
    let response = match agent.get(url).call() {
        Ok(response) => response,
        // What is there speaks something else, or closed the connection: that is an answer too.
        Err(ureq::Error::Protocol(why)) => return Ok(no_http(&why.to_string())),
        Err(ureq::Error::Http(why)) => return Ok(no_http(&why.to_string())),
        Err(ureq::Error::Io(why)) if closed(&why) => return Ok(no_http(&why.to_string())),
        Err(error) => return Err(error_of(&error, within)),
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let read = response
        .into_body()
        .into_reader()
        .take(most)
        .read_to_end(&mut body);
    match read {
        Ok(_) => {}
        Err(error) if timed_out(&error) => return Err(HttpError::TimedOut(within)),
        // What came before it broke off is what there is to see.
        Err(_) => {}
    }
    Ok(Answer { status, body })
}

fn no_http(why: &str) -> Answer {
    Answer {
        status: 0,
        body: why.as_bytes().to_vec(),
    }
}

fn closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::InvalidData
    )
}

fn timed_out(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    error.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

fn error_of(error: &ureq::Error, within: Duration) -> HttpError {
    match error {
        ureq::Error::Timeout(_) => HttpError::TimedOut(within),
        ureq::Error::Io(error) if timed_out(error) => HttpError::TimedOut(within),
        other => HttpError::Failed(other.to_string()),
    }
}

/// Fetches `url` into `part`, going on behind what that has already; whole and on the disk when it returns. Blocks; ends soon
/// after `stop` is set. What was fetched stays where it fails.
pub fn download(
    url: &str,
    part: &Path,
    limits: Limits,
    stop: &AtomicBool,
) -> Result<(), DownloadError> {
    if !is_url(url) {
        let url = url.to_owned();
        return Err(DownloadError::Url { url });
    }
    let until = Instant::now() + limits.time;
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let agent: Agent = Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(STALL))
        .http_status_as_error(false)
        .max_redirects(REDIRECTS)
        .build()
        .into();
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            wait(until, stop)?;
        }
        match once(&agent, url, part, limits, until, stop) {
            Err(DownloadError::Failed(why)) => last = why,
            other => return other,
        }
    }
    Err(DownloadError::Failed(last))
}

/// Pauses before the next try.
fn wait(until: Instant, stop: &AtomicBool) -> Result<(), DownloadError> {
    const LOOK: Duration = Duration::from_millis(100);
    let again = Instant::now() + PAUSE;
    while Instant::now() < again && Instant::now() < until {
        if stop.load(Ordering::Relaxed) {
            return Err(DownloadError::Stopped);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn once(
    agent: &Agent,
    url: &str,
    part: &Path,
    limits: Limits,
    until: Instant,
    stop: &AtomicBool,
) -> Result<(), DownloadError> {
    let have = part.metadata().map_or(0, |found| found.len());
    let left = until.saturating_duration_since(Instant::now());
    let request = agent.get(url).config().timeout_global(Some(left)).build();
    let request = if have > 0 {
        request.header("Range", format!("bytes={have}-"))
    } else {
        request
    };
    let response = request.call().map_err(|error| failed(&error, limits))?;
    let status = response.status().as_u16();
    let goes_on = match status {
        206 if begins_at(&response, have) => true,
        200 | 206 => false,
        // All of it is there already, or what is there is not of this file: its hash will tell.
        416 if have > 0 => return Ok(File::open(part)?.sync_all()?),
        408 | 429 | 500..=599 => {
            let why = format!("the server answers {status}");
            return Err(DownloadError::Failed(why));
        }
        status => return Err(DownloadError::Status { status }),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .append(goes_on)
        .truncate(!goes_on)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(part)?;
    let mut length = if goes_on { have } else { 0 };
    let mut body = response.into_body().into_reader();
    let mut piece = vec![0; PIECE];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(DownloadError::Stopped);
        }
        let read = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if Instant::now() >= until || timed_out(&error) => {
                return Err(DownloadError::TimedOut(limits.time));
            }
            Err(error) => return Err(DownloadError::Failed(error.to_string())),
        };
        length += u64::try_from(read).unwrap_or(u64::MAX);
        if length > limits.bytes {
            let most = limits.bytes;
            return Err(DownloadError::TooLarge { most });
        }
        file.write_all(&piece[..read])?;
    }
    Ok(file.sync_all()?)
}

/// Whether a partial answer begins where it was asked to.
fn begins_at<B>(response: &Response<B>, have: u64) -> bool {
    let range = response.headers().get("content-range");
    let range = range.and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

fn failed(error: &ureq::Error, limits: Limits) -> DownloadError {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Global) => DownloadError::TimedOut(limits.time),
        other => DownloadError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Serves each answer to one connection, in turn; returns the URL.
    fn serve(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let served = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("asked");
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).expect("read");
                asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
                // Ignored: the caller has gone.
                let _ = stream.write_all(&answer);
            }
            asked
        });
        (format!("http://{address}/f"), served)
    }

    fn whole(head: &str, body: &[u8]) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
        answer = answer.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let mut bytes = answer.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        time: Duration::from_secs(20),
    };

    #[test]
    fn b5_only_http_and_https_are_asked() {
        for good in ["http://a/b", "https://a.b:8/c?d"] {
            assert!(is_url(good), "{good}");
        }
        let bad = [
            "-KPATH://y",
            "file:///etc/shadow",
            "ftp://a/b",
            "http://-oProxy/x",
            "https://",
            "http://a/b c",
            "scp://a/b",
        ];
        for bad in bad {
            assert!(!is_url(bad), "{bad}");
            let directory = tempfile::tempdir().expect("a directory");
            let part = directory.path().join("part");
            let refused = download(bad, &part, LIMITS, &AtomicBool::new(false));
            assert!(matches!(refused, Err(DownloadError::Url { .. })), "{bad}");
            assert!(!part.exists());
        }
    }

    #[test]
    fn b5_a_download_goes_on_where_it_broke_off() {
        let mut half =
            b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n".to_vec();
        half.extend_from_slice(b"four");
        let rest = whole("206 Partial Content\r\nContent-Range: bytes 4-7/8", b"more");
        let (url, served) = serve(vec![half, rest]);
        let directory = tempfile::tempdir().expect("a directory");
        let part = directory.path().join("part");
        download(&url, &part, LIMITS, &AtomicBool::new(false)).expect("fetched");
        assert_eq!(std::fs::read(&part).expect("read"), b"fourmore");
        let asked = served.join().expect("served");
        assert!(
            asked[1].to_lowercase().contains("range: bytes=4-"),
            "{asked:?}"
        );
    }

    #[test]
    fn b5_a_server_that_starts_over_or_answers_another_range_is_not_appended_to() {
        for answer in [
            whole("200 OK", b"new"),
            whole("206 Partial Content\r\nContent-Range: bytes 0-2/3", b"new"),
        ] {
            let (url, served) = serve(vec![answer]);
            let directory = tempfile::tempdir().expect("a directory");
            let part = directory.path().join("part");
            std::fs::write(&part, "old and longer").expect("written");
            download(&url, &part, LIMITS, &AtomicBool::new(false)).expect("fetched");
            assert_eq!(std::fs::read(&part).expect("read"), b"new");
            served.join().expect("served");
        }
    }

    #[test]
    fn b5_an_endless_download_is_bounded_in_size_and_time() {
        let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        endless.extend(std::iter::repeat_n(0, 3 << 20));
        let (url, served) = serve(vec![endless]);
        let directory = tempfile::tempdir().expect("a directory");
        let part = directory.path().join("part");
        let refused = download(&url, &part, LIMITS, &AtomicBool::new(false));
        assert!(
            matches!(refused, Err(DownloadError::TooLarge { .. })),
            "{refused:?}"
        );
        assert!(part.metadata().expect("there").len() <= LIMITS.bytes);
        served.join().expect("served");
        // One that never goes on.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/f", listener.local_addr().expect("bound"));
        let limits = Limits {
            time: Duration::from_millis(300),
            ..LIMITS
        };
        let started = Instant::now();
        let refused = download(&url, &part, limits, &AtomicBool::new(false));
        assert!(
            refused.is_err() && started.elapsed() < Duration::from_secs(10),
            "{refused:?}"
        );
    }

    #[test]
    fn b5_a_look_reads_no_more_than_it_may_and_takes_anything_for_an_answer() {
        let second = Duration::from_secs(5);
        let mut endless = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        endless.extend(std::iter::repeat_n(b'x', 1 << 20));
        let answers = vec![
            endless,
            whole("302 Found\r\nLocation: file:///etc/passwd", b""),
            whole("503 No", b"down"),
            b"SSH-2.0-OpenSSH\r\n".to_vec(),
            Vec::new(),
        ];
        let (url, served) = serve(answers);
        let seen: Vec<Answer> = (0..5)
            .map(|_| get(&url, second, 1000).expect("an answer"))
            .collect();
        served.join().expect("served");
        assert_eq!((seen[0].status, seen[0].body.len()), (200, 1000));
        assert_eq!(seen[1].status, 302);
        assert_eq!(
            (seen[2].status, seen[2].body.as_slice()),
            (503, &b"down"[..])
        );
        assert_eq!((seen[3].status, seen[4].status), (0, 0), "{seen:?}");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent = format!("http://{}/", listener.local_addr().expect("bound"));
        let none = get(&silent, Duration::from_millis(200), 1000);
        assert!(matches!(none, Err(HttpError::TimedOut(_))), "{none:?}");
    }
}
