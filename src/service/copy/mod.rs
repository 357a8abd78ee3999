//! Copies of a file between this machine and a host.

mod error;
mod incoming;
mod outgoing;

use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

pub use self::error::CopyError;

use self::error::STREAM;
use self::incoming::Incoming;
use self::outgoing::outgoing;
use super::{ServiceError, Site};
use crate::guest::{Output, Program};
use crate::lab::{Found, LabError};
use crate::storage;
use crate::wire::CHUNK_BYTES;

/// Writes a file beside its place and renames it once it has all of its bytes, so that a copy that was cut off, which looks
/// like one that has ended, leaves the old file. An existing file keeps its mode and owner; a device or a pipe is written
/// into. Its arguments: the path, the mode of a new file, the length.
const RECEIVE: &str = r#"set -e; umask 077; p=$1
if [ -d "$p" ]; then echo "$p is a directory" >&2; exit 1; fi
if [ -e "$p" ] && [ ! -f "$p" ]; then exec cat > "$p"; fi
if [ -L "$p" ]; then p=$(readlink -f "$p"); fi
d="$p.twin-cp.$$"; trap 'rm -f "$d"' EXIT; cat > "$d"
n=$(wc -c < "$d"); if [ "$n" -ne "$3" ]; then echo "cut off: $n of $3 bytes came" >&2; exit 1; fi
if [ -e "$p" ]; then o=$(stat -c '%u:%g' "$p"); m=$(stat -c %a "$p"); chown "$o" "$d"; chmod "$m" "$d"; else chmod "$2" "$d"; fi
mv "$d" "$p"; trap - EXIT"#;

/// A file of a host.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'r> {
    /// The host.
    pub host: &'r str,
    /// The path in it.
    pub path: &'r str,
}

/// Runs a program with its streams joined up; its standard error is the failure's text.
async fn run_in(
    site: &Site,
    found: &Found,
    host: &str,
    (argv, stdin): (Vec<String>, Option<mpsc::Receiver<Vec<u8>>>),
    take: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
) -> Result<(), ServiceError> {
    let guest = site.guest(found, found.host(host)?)?;
    let (output, mut receiver) = mpsc::channel(16);
    let mut written = Vec::new();
    let sink = async {
        let mut failed = None;
        while let Some(output) = receiver.recv().await {
            match output {
                Output::Stdout(data) if failed.is_none() => failed = take(&data).err(),
                Output::Stdout(_) => {}
                Output::Stderr(data) => written.extend(data),
            }
        }
        failed
    };
    let program = Program {
        argv,
        stdin,
        output,
    };
    let (code, failed) = tokio::join!(guest.run(program), sink);
    if let Some(source) = failed {
        return Err(CopyError::Sink { source }.into());
    }
    match code? {
        0 => Ok(()),
        code => Err(CopyError::Host {
            host: host.to_owned(),
            code,
            said: String::from_utf8_lossy(&written).trim().to_owned(),
        }
        .into()),
    }
}

fn joined(error: tokio::task::JoinError) -> LabError {
    LabError::io("copying")(std::io::Error::other(error))
}

/// Copies a file of this machine, or standard input where it is `-`, to a host.
pub async fn put(
    site: &Site,
    found: &Found,
    from: &Path,
    to: Remote<'_>,
) -> Result<(), ServiceError> {
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let path = if to.path.ends_with('/') && from != Path::new(STREAM) {
        format!("{}{name}", to.path)
    } else {
        to.path.to_owned()
    };
    let (opening, place) = (from.to_owned(), path.clone());
    let opened = tokio::task::spawn_blocking(move || outgoing(&opening, &place)).await;
    let opened = opened.map_err(joined)??;
    // One that grows meanwhile is copied as long as it was.
    let mut file = tokio::fs::File::from_std(opened.file).take(opened.bytes);
    let (sender, receiver) = mpsc::channel(4);
    let read = async move {
        let mut piece = vec![0u8; CHUNK_BYTES];
        loop {
            match file.read(&mut piece).await {
                Ok(0) => return Ok(()),
                Ok(length) => drop(sender.send(piece[..length].to_vec()).await),
                Err(error) => return Err(error),
            }
        }
    };
    let (mode, length) = (format!("{:o}", opened.mode), opened.bytes.to_string());
    let argv = ["sh", "-c", RECEIVE, "sh", &path, &mode, &length];
    let argv = argv.map(str::to_owned).to_vec();
    let mut nothing = |_: &[u8]| Ok(());
    let program = (argv, Some(receiver));
    let (ran, read) = tokio::join!(run_in(site, found, to.host, program, &mut nothing), read);
    ran?;
    let path = from.to_owned();
    read.map_err(|source| CopyError::Read { path, source }.into())
}

/// Copies a file of a host to this machine, or to `stdout` where its place is `-`.
pub async fn get(
    site: &Site,
    found: &Found,
    from: Remote<'_>,
    to: &Path,
    stdout: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), ServiceError> {
    let to = if to.is_dir() {
        to.join(Path::new(from.path).file_name().unwrap_or_default())
    } else {
        to.to_owned()
    };
    let path = to.clone();
    let wrong = move |source| CopyError::Write {
        path: path.clone(),
        source,
    };
    let mut mode = Vec::new();
    let argv = ["stat", "-L", "-c", "%a", "--", from.path];
    let program = (argv.map(str::to_owned).to_vec(), None);
    let mut take = |data: &[u8]| {
        mode.extend_from_slice(data);
        Ok(())
    };
    run_in(site, found, from.host, program, &mut take).await?;
    let mode = u32::from_str_radix(String::from_utf8_lossy(&mode).trim(), 8).unwrap_or(0o666);
    let mode = storage::for_the_caller(mode);
    let opened = tokio::task::spawn_blocking(move || Incoming::open(&to, mode)).await;
    let mut incoming = opened.map_err(joined)?.map_err(&wrong)?;
    let program = (["cat", "--", from.path].map(str::to_owned).to_vec(), None);
    let mut take = |data: &[u8]| incoming.write(data, stdout);
    run_in(site, found, from.host, program, &mut take).await?;
    Ok(incoming.finish().map_err(wrong)?)
}
