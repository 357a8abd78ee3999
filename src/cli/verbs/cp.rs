//! `twin cp`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tracing::instrument;

use super::{DONE, interruptible};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::guest::{Output, Program};
use crate::lab::Found;
use crate::wire::CHUNK_BYTES;

/// Writes a file beside its place and renames it once it has all of its bytes, so that a copy that was cut off, which looks
/// like one that has ended, leaves the old file. Its arguments: the path, the mode, the length.
const RECEIVE: &str = r#"set -e; d="$1.twin-cp.$$"; trap 'rm -f "$d"' EXIT; cat > "$d"
n=$(wc -c < "$d"); if [ "$n" -ne "$3" ]; then echo "cut off: $n of $3 bytes came" >&2; exit 1; fi
chmod "$2" "$d"; mv "$d" "$1"; trap - EXIT"#;

#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// From: a path, or HOST:PATH.
    pub(crate) from: String,
    /// To: a path, or HOST:PATH.
    pub(crate) to: String,
}

fn remote(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(host, _)| !host.contains('/'))
}

#[instrument(skip_all, fields(lab = context.global.lab.as_deref()))]
pub(crate) async fn run(context: &Context<'_>, flags: &Flags) -> Result<u8, Failure> {
    super::no_document(context.ui, "cp")?;
    let found = context.lab().await?;
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
    let way = host.way(context.layout(), &found.networks).ok_or_else(|| {
        Failure::machine(
            format!("the image of {} has no way in", host.name),
            Vec::new(),
        )
    })?;
    let guest = context.drivers().guests.open(&way);
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

async fn put(
    context: &Context<'_>,
    found: &Found,
    from: &Path,
    host: &str,
    to: &str,
) -> Result<u8, Failure> {
    let wrong = |error: std::io::Error| {
        Failure::usage(
            format!("{}: {error}", from.display()),
            vec!["name a file that can be read".into()],
        )
    };
    let file = tokio::fs::File::open(from).await.map_err(wrong)?;
    let metadata = file.metadata().await.map_err(wrong)?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(Failure::usage(
            format!("{} is no regular file, and has no length", from.display()),
            vec![format!(
                "twin exec {host} -- sh -c 'cat > {to}' < {}",
                from.display()
            )],
        ));
    }
    if metadata.is_dir() {
        return Err(Failure::usage(
            format!("{} is a directory", from.display()),
            vec![format!(
                "tar -C {} -c . | twin exec {host} -- tar -C {to} -x",
                from.display()
            )],
        ));
    }
    let to = if to.ends_with('/') {
        format!(
            "{to}{}",
            from.file_name().unwrap_or_default().to_string_lossy()
        )
    } else {
        to.to_owned()
    };
    let mode = format!("{:o}", metadata.permissions().mode() & 0o7777);
    // One that grows meanwhile is copied as long as it was.
    let mut file = file.take(metadata.len());
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
    let length = metadata.len().to_string();
    let argv = ["sh", "-c", RECEIVE, "sh", &to, &mode, &length]
        .map(str::to_owned)
        .to_vec();
    let (ran, read) = tokio::join!(
        run_in(context, found, host, argv, Some(receiver), |_| Ok(())),
        read
    );
    ran?;
    read.map_err(wrong)?;
    DONE
}

async fn get(
    context: &Context<'_>,
    found: &Found,
    host: &str,
    from: &str,
    to: &Path,
) -> Result<u8, Failure> {
    use std::io::Write;
    let to = if to.is_dir() {
        to.join(Path::new(from).file_name().unwrap_or_default())
    } else {
        to.to_owned()
    };
    let parent = to
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let wrong = |error: std::io::Error| {
        Failure::usage(
            format!("{}: {error}", to.display()),
            vec!["name a path that can be written".into()],
        )
    };
    let mut draft = tempfile::NamedTempFile::new_in(parent).map_err(wrong)?;
    run_in(
        context,
        found,
        host,
        vec!["cat".into(), from.to_owned()],
        None,
        |data| draft.write_all(data),
    )
    .await?;
    draft.persist(&to).map_err(|error| wrong(error.error))?;
    DONE
}
