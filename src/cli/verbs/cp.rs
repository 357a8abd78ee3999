//! `twin cp`.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tracing::instrument;

use crate::cli::context::Context;
use crate::cli::failure::{DONE, Failure};
use crate::cli::interrupt::interruptible;
use crate::guest::{Output, Program};
use crate::lab::Found;
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

/// Standard input, or standard output.
const STREAM: &str = "-";

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// From: a path, - for standard input, or HOST:PATH.
    pub(crate) from: String,
    /// To: a path, - for standard output, or HOST:PATH.
    pub(crate) to: String,
}

fn remote(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(host, _)| !host.contains('/'))
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    crate::cli::ui::no_document(context.ui, "cp")?;
    let found = context.site.lab().await?;
    let work = async {
        match (remote(&flags.from), remote(&flags.to)) {
            (None, Some((host, path))) => {
                put(context, &found, Path::new(&flags.from), host, path).await
            }
            (Some((host, path)), None) => {
                get(context, &found, host, path, Path::new(&flags.to)).await
            }
            _ => Err(Failure::usage(
                "one side of a copy is HOST:PATH, the other a path here",
                vec!["`twin cp FILE HOST:PATH` or `twin cp HOST:PATH FILE`".into()],
            )),
        }
    };
    interruptible(work, || {
        Failure::interrupted("interrupted; nothing was replaced", Vec::new())
    })
    .await
}

/// Runs a program with its streams joined up; its standard error is the failure's text.
async fn run_in(
    context: &Context<'_>,
    found: &Found,
    host: &str,
    argv: Vec<String>,
    stdin: Option<mpsc::Receiver<Vec<u8>>>,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let host = found.host(host)?;
    let way = host
        .way(context.site.layout(), &found.networks)
        .ok_or_else(|| {
            Failure::machine(
                format!("the image of {} has no way in", host.name),
                Vec::new(),
            )
        })?;
    let guest = context.site.drivers().guests.open(&way);
    let (sender, mut receiver) = mpsc::channel(16);
    let mut said = Vec::new();
    let sink = async {
        let mut failed = None;
        while let Some(output) = receiver.recv().await {
            match output {
                Output::Stdout(data) if failed.is_none() => failed = take(&data).err(),
                Output::Stdout(_) => {}
                Output::Stderr(data) => said.extend(data),
            }
        }
        failed
    };
    let (code, failed) = tokio::join!(
        guest.run(Program {
            argv,
            stdin,
            output: sender
        }),
        sink
    );
    if let Some(error) = failed {
        return Err(Failure::machine(
            format!("writing here: {error}"),
            vec!["see that there is space".into()],
        ));
    }
    match code? {
        0 => Ok(()),
        code => Err(Failure::machine(
            format!(
                "{} says (exit {code}): {}",
                host.name,
                String::from_utf8_lossy(&said).trim()
            ),
            vec!["see that the path is right".into()],
        )),
    }
}

/// What is sent to a host: a file, and its length, by which the guest detects a copy that was cut off.
struct Outgoing {
    file: std::fs::File,
    bytes: u64,
    mode: u32,
}

/// Opens what is to be copied. What comes from a stream is kept in a file without a name first: its length is known then.
fn outgoing(from: &Path, host: &str, to: &str) -> Result<Outgoing, Failure> {
    let wrong = |error: std::io::Error| {
        Failure::usage(
            format!("{}: {error}", from.display()),
            vec!["name a file that can be read".into()],
        )
    };
    if from == Path::new(STREAM) {
        return spooled(&mut std::io::stdin().lock(), 0o666).map_err(wrong);
    }
    let mut file = std::fs::File::open(from).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    let kind = metadata.file_type();
    if metadata.is_file() {
        let (bytes, mode) = (metadata.len(), metadata.permissions().mode() & 0o7777);
        return Ok(Outgoing { file, bytes, mode });
    }
    if kind.is_fifo() {
        return spooled(&mut file, 0o666).map_err(wrong);
    }
    let shown = from.display();
    if metadata.is_dir() {
        let cure = format!("tar -C {shown} -c . | twin exec {host} -- tar -C {to} -x");
        return Err(Failure::usage(
            format!("{shown} is a directory"),
            vec![cure],
        ));
    }
    Err(Failure::usage(
        format!("{shown} is a device, and has no length"),
        vec![format!("twin exec {host} -- sh -c 'cat > {to}' < {shown}")],
    ))
}

fn spooled(from: &mut impl std::io::Read, mode: u32) -> std::io::Result<Outgoing> {
    let mut file = tempfile::tempfile()?;
    let bytes = std::io::copy(from, &mut file)?;
    std::io::Seek::rewind(&mut file)?;
    let mode = storage::for_the_caller(mode);
    Ok(Outgoing { file, bytes, mode })
}

async fn put(
    context: &Context<'_>,
    found: &Found,
    from: &Path,
    host: &str,
    to: &str,
) -> Result<u8, Failure> {
    let to = if to.ends_with('/') && from != Path::new(STREAM) {
        format!(
            "{to}{}",
            from.file_name().unwrap_or_default().to_string_lossy()
        )
    } else {
        to.to_owned()
    };
    let opening = (from.to_owned(), host.to_owned(), to.clone());
    let opened =
        tokio::task::spawn_blocking(move || outgoing(&opening.0, &opening.1, &opening.2)).await;
    let opened = opened.map_err(|error| Failure::machine(error.to_string(), Vec::new()))??;
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
    let argv = ["sh", "-c", RECEIVE, "sh", &to, &mode, &length]
        .map(str::to_owned)
        .to_vec();
    let (ran, read) = tokio::join!(
        run_in(context, found, host, argv, Some(receiver), |_| Ok(())),
        read
    );
    ran?;
    read.map_err(|error: std::io::Error| {
        Failure::usage(
            format!("{}: {error}", from.display()),
            vec!["name a file that can be read".into()],
        )
    })?;
    DONE
}

/// What a copy is written to here.
enum Incoming {
    /// Standard output.
    Stream,
    /// What is there and is no file: a device, a pipe, a terminal. It is written into, and stays what it is.
    Special(std::fs::File),
    /// A file beside its place, which takes that once it is whole.
    File(tempfile::NamedTempFile, PathBuf),
}

impl Incoming {
    /// Opens it; blocks until a pipe has a reader. `mode` is that of a file that is not there yet.
    fn open(to: &Path, mode: u32) -> std::io::Result<Self> {
        if to == Path::new(STREAM) {
            return Ok(Self::Stream);
        }
        let there = std::fs::metadata(to).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let opened = std::fs::OpenOptions::new().write(true).open(to)?;
            return Ok(Self::Special(opened));
        }
        // A link stays one: what it leads to is replaced.
        let place = match &there {
            Some(_) => to.canonicalize()?,
            None => to.to_owned(),
        };
        let parent = place
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let draft = tempfile::NamedTempFile::new_in(parent)?;
        let mode = there.as_ref().map_or(mode, |there| there.mode() & 0o7777);
        if let Some(there) = &there {
            let own = draft.as_file().metadata()?;
            if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
                fchown(draft.as_file(), Some(there.uid()), Some(there.gid()))?;
            }
        }
        // After the owner, which takes bits of it.
        draft
            .as_file()
            .set_permissions(std::fs::Permissions::from_mode(mode))?;
        Ok(Self::File(draft, place))
    }

    fn write(&mut self, context: &Context<'_>, data: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stream => {
                context.ui.bytes(data);
                Ok(())
            }
            Self::Special(file) => file.write_all(data),
            Self::File(draft, _) => draft.write_all(data),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Stream | Self::Special(_) => Ok(()),
            Self::File(draft, place) => {
                draft.as_file().sync_all()?;
                draft.persist(place).map(drop).map_err(|error| error.error)
            }
        }
    }
}

async fn get(
    context: &Context<'_>,
    found: &Found,
    host: &str,
    from: &str,
    to: &Path,
) -> Result<u8, Failure> {
    let to = if to.is_dir() {
        to.join(Path::new(from).file_name().unwrap_or_default())
    } else {
        to.to_owned()
    };
    let wrong = |error: std::io::Error| {
        Failure::usage(
            format!("{}: {error}", to.display()),
            vec!["name a path that can be written".into()],
        )
    };
    let mut mode = Vec::new();
    let asked = vec![
        "stat".into(),
        "-L".into(),
        "-c".into(),
        "%a".into(),
        "--".into(),
        from.into(),
    ];
    run_in(context, found, host, asked, None, |data| {
        mode.extend_from_slice(data);
        Ok(())
    })
    .await?;
    let mode = u32::from_str_radix(String::from_utf8_lossy(&mode).trim(), 8).unwrap_or(0o666);
    let (place, mode) = (to.clone(), storage::for_the_caller(mode));
    let opened = tokio::task::spawn_blocking(move || Incoming::open(&place, mode)).await;
    let opened = opened.map_err(|error| wrong(std::io::Error::other(error)))?;
    let mut incoming = opened.map_err(wrong)?;
    let argv = vec!["cat".into(), "--".into(), from.to_owned()];
    run_in(context, found, host, argv, None, |data| {
        incoming.write(context, data)
    })
    .await?;
    incoming.finish().map_err(wrong)?;
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_an_existing_file_keeps_mode_owner_and_the_link_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("f"), directory.path().join("link"));
        std::fs::write(&file, "old").expect("written");
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(&file, mode).expect("set");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        let Incoming::File(mut draft, place) = Incoming::open(&link, 0o755).expect("opened") else {
            panic!("a link to a file is a file");
        };
        draft.write_all(b"new").expect("written");
        assert_eq!(
            std::fs::read(&file).expect("read"),
            b"old",
            "not before it is whole"
        );
        Incoming::File(draft, place).finish().expect("finished");
        assert_eq!(std::fs::read(&file).expect("read"), b"new");
        assert!(link.is_symlink());
        let mode = file.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }

    #[test]
    fn b7_a_pipe_and_a_device_stay_what_they_are() {
        use std::os::unix::fs::FileTypeExt;
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::read(pipe).expect("read"))
        };
        let Incoming::Special(mut file) = Incoming::open(&pipe, 0o644).expect("opened") else {
            panic!("a pipe is written into");
        };
        file.write_all(b"words").expect("written");
        drop(file);
        assert_eq!(reader.join().expect("joined"), b"words");
        assert!(pipe.metadata().expect("there").file_type().is_fifo());
        let null = Path::new("/dev/null");
        assert!(matches!(
            Incoming::open(null, 0o644),
            Ok(Incoming::Special(_))
        ));
        assert!(null.metadata().expect("there").file_type().is_char_device());
    }
}
