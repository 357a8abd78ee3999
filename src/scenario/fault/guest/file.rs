//! `file-change`: gives a file inside a host another content, and later itself again: it is kept beside the new one under
//! another name, with its mode, owner, times, attributes and other links. Where that cannot be, or it is lost, its bytes, mode
//! and owner come back from what is kept beside the journal.

use std::path::PathBuf;

use base64::Engine;
use sha2::{Digest, Sha256};

use super::inside;
use crate::scenario::fault::prelude::*;
use crate::storage;

/// What fits an argument of a program: the content travels in one.
const MOST_BYTES: usize = 64 << 10;

/// Gives a file another content, at most 64 KiB; of a link, what it leads to.
///
/// Revert: the very file of before, kept beside it meanwhile, or no file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FileChange {
    host: Name,
    path: String,
    content: String,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    /// Where it is; a link has been followed.
    path: String,
    /// Where it is kept meanwhile; an older twin did not.
    #[serde(default)]
    aside: String,
    /// Its content, its mode and owner; nothing where there was no file.
    was: Option<Kept>,
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Was {
    /// In base64.
    content: String,
    /// As `stat -c '%a %u:%g'` says.
    owner: String,
}

/// What the journal has of a file. Others than root may read the journal, so that the content is in a file beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    content: Content,
    owner: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Content {
    /// In a file of this machine, which is root's alone.
    Kept {
        /// The file.
        file: PathBuf,
        /// SHA-256 of the content.
        sha256: String,
    },
    /// In base64, as an older twin wrote it into the journal.
    Content(String),
}

fn sha256(encoded: &str) -> String {
    let digest = Sha256::digest(encoded.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Kept {
    /// Keeps a file's content, on the disk when this returns.
    fn keep(world: &World, was: Was) -> Result<Self, FaultError> {
        let directory = world.layout.captured(world.found.record.uuid);
        let id = uuid::Uuid::new_v4().simple().to_string();
        let file = directory.join(format!("{}-{id}", world.run));
        let sha256 = sha256(&was.content);
        let kept = storage::make_directory(&directory, 0o700)
            .and_then(|()| storage::write(&file, was.content.as_bytes(), 0o600));
        kept.map_err(|error| FaultError::Target(format!("keeping what is in the file: {error}")))?;
        Ok(Self {
            content: Content::Kept { file, sha256 },
            owner: was.owner,
        })
    }

    /// The file as it was; nothing where its content has been forgotten, which is done once it is put back.
    fn was(&self) -> Option<Was> {
        let content = match &self.content {
            Content::Content(content) => content.clone(),
            Content::Kept { file, sha256: kept } => {
                let content = std::fs::read_to_string(file).ok()?;
                (sha256(&content) == *kept).then_some(content)?
            }
        };
        let owner = self.owner.clone();
        Some(Was { content, owner })
    }

    /// Whether a file is what it was.
    fn is(&self, now: &Was) -> bool {
        let same = match &self.content {
            Content::Content(content) => *content == now.content,
            Content::Kept { sha256: kept, .. } => *kept == sha256(&now.content),
        };
        same && self.owner == now.owner
    }

    /// Forgets the content: it is put back.
    fn forget(&self) {
        if let Content::Kept { file, .. } = &self.content {
            // One that stays is removed with the lab.
            let _ = storage::remove(file);
        }
    }
}

fn footprint(host: &str, path: &str) -> Footprint {
    Footprint::of_host(host).owns(&[INSIDE, "file", path])
}

fn encoded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Where a file is, and a name beside it that is free.
async fn places(world: &World, host: &str, path: &str) -> Result<(String, String), FaultError> {
    // A link stays a link: what it leads to is what is changed, also where that is not there yet. Some versions of readlink
    // take such a link for one that begins where they were started.
    let script = "cd \"$(dirname \"$1\")\" 2>/dev/null || :; p=$(readlink -f \"$1\"); n=0; while [ -e \"$p.twin-was$n\" ]; do n=$((n+1)); done; \
        printf '%s\\n' \"$p\" \"$p.twin-was$n\"";
    let said = inside::run(world, host, &["sh", "-ec", script, "sh", path]).await?;
    match said.lines().collect::<Vec<_>>().as_slice() {
        [place, aside] => Ok(((*place).to_owned(), (*aside).to_owned())),
        _ => Err(FaultError::Target(format!(
            "{host} tells of {path}: {said:?}"
        ))),
    }
}

/// Reads a file as it is.
async fn read(world: &World, host: &str, path: &str) -> Result<Option<Was>, FaultError> {
    let script = "[ -e \"$1\" ] || exit 0; [ -f \"$1\" ] || { echo 'it is no file' >&2; exit 1; }; \
        stat -c '%a %u:%g' \"$1\"; base64 \"$1\" | tr -d '\\n'";
    let argv = ["sh", "-ec", script, "sh", path];
    let said = inside::run(world, host, &argv).await?;
    let Some((owner, content)) = said.split_once('\n') else {
        return Ok(None);
    };
    if content.len() > MOST_BYTES.div_ceil(3) * 4 {
        return Err(FaultError::Target(format!(
            "{path} on {host} is longer than the 64 KiB that can be put back"
        )));
    }
    Ok(Some(Was {
        content: content.to_owned(),
        owner: owner.to_owned(),
    }))
}

/// Writes a file whole, beside it and renamed, so that no program reads half of it; with its mode and owner where given, and the
/// one that it replaces kept aside where that is asked for. It is on the disk then: the next step may take the host's power
/// away.
async fn write(
    world: &World,
    host: &str,
    path: &str,
    content: &str,
    (owner, aside): (Option<&str>, Option<&str>),
) -> Result<(), FaultError> {
    // Giving a file away takes bits of its mode.
    let script = "n=\"$1.twin-new\"; printf %s \"$2\" | base64 -d > \"$n\"; \
        if [ -n \"$3\" ]; then chown \"${3#* }\" \"$n\"; chmod \"${3% *}\" \"$n\"; fi; \
        if [ -n \"$4\" ]; then ln \"$1\" \"$4\" 2>/dev/null || :; fi; \
        sync \"$n\"; mv -f \"$n\" \"$1\"; sync \"$(dirname \"$1\")\"";
    let argv = ["sh", "-ec", script, "sh", path, content];
    let last = [owner.unwrap_or_default(), aside.unwrap_or_default()];
    let argv = [&argv[..], &last].concat();
    inside::run(world, host, &argv).await.map(drop)
}

/// Puts the file that is kept aside back in its place, where there is one; where it has never left that, drops its other name.
async fn put_back(world: &World, host: &str, path: &str, aside: &str) -> Result<(), FaultError> {
    let script = "rm -f \"$1.twin-new\"; [ -e \"$2\" ] || exit 0; \
        i() { stat -c %d:%i \"$1\" 2>/dev/null || :; }; \
        if [ \"$(i \"$1\")\" = \"$(i \"$2\")\" ]; then rm -f \"$2\"; else mv -f \"$2\" \"$1\"; fi; \
        sync \"$(dirname \"$1\")\"";
    let argv = ["sh", "-ec", script, "sh", path, aside];
    inside::run(world, host, &argv).await.map(drop)
}

impl Fault for FileChange {
    const NAME: &'static str = "file-change";
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        if !self.path.starts_with('/') {
            return Err(Mistake::of("path", "path", "it begins with a slash"));
        }
        if self.content.len() > MOST_BYTES {
            let why = "a file of at most 64 KiB can be changed";
            let length = self.content.len().to_string();
            return Err(Mistake::of_all(&length, "length", why).at("content"));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let bytes = self.content.len();
        format!("write {bytes} bytes to {} on {}", self.path, self.host)
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.path)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let (path, aside) = places(world, &self.host, &self.path).await?;
        let was = read(world, &self.host, &path).await?;
        let was = was.map(|was| Kept::keep(world, was)).transpose()?;
        Ok(Before {
            host: self.host.to_string(),
            path,
            aside,
            was,
        })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let content = encoded(self.content.as_bytes());
        let was = captured.was.as_ref();
        let kept = was.map(|was| (was.owner.as_str(), captured.aside.as_str()));
        write(world, &self.host, &captured.path, &content, kept.unzip()).await
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let now = read(world, &self.host, &captured.path).await?;
        let same = now.is_some_and(|now| now.content == encoded(self.content.as_bytes()));
        let what = if same { "as asked" } else { "something else" };
        Ok(Effectiveness::new(
            same,
            format!("{} holds {what}", self.path),
        ))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.path)
    }

    fn describe(&self) -> String {
        match &self.was {
            Some(_) => format!(
                "gives {} on {} its own content, mode and owner again",
                self.path, self.host
            ),
            None => format!("removes {} from {}", self.path, self.host),
        }
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self {
            host,
            path,
            aside,
            was,
        } = self;
        let Some(was) = was else {
            // Where there is no such directory there is nothing to see to.
            let script = "d=$(dirname \"$1\"); [ -d \"$d\" ] || exit 0; \
                rm -f \"$1\" \"$1.twin-new\"; sync \"$d\"";
            inside::run(world, host, &["sh", "-ec", script, "sh", path]).await?;
            return match read(world, host, path).await? {
                None => Ok(format!("{host} has no {path}, as before")),
                Some(_) => Err(FaultError::Target(format!("{host} still has {path}"))),
            };
        };
        if !aside.is_empty() {
            put_back(world, host, path, aside).await?;
        }
        let now = read(world, host, path).await?;
        if !now.is_some_and(|now| was.is(&now)) {
            let Some(before) = was.was() else {
                return Err(FaultError::Target(format!(
                    "{path} on {host} is not what it was, and its content is not kept any more"
                )));
            };
            let owner = Some(before.owner.as_str());
            write(world, host, path, &before.content, (owner, None)).await?;
        }
        let now = read(world, host, path).await?;
        if now.is_some_and(|now| was.is(&now)) {
            was.forget();
            return Ok(format!("{path} on {host} is what it was"));
        }
        Err(FaultError::Target(format!(
            "{path} on {host} is not what it was"
        )))
    }
}
