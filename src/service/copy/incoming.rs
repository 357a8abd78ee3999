//! What comes from a host, on its way to its place here.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::error::STREAM;

/// What a copy is written to here.
pub(super) enum Incoming {
    /// Standard output.
    Stream,
    /// What is there and is no file: a device, a pipe, a terminal. It is written into, and stays what it is.
    Special(std::fs::File),
    /// A file beside its place, which takes that once it is whole.
    File(tempfile::NamedTempFile, PathBuf),
}

impl Incoming {
    /// Opens it; blocks until a pipe has a reader. `mode` is that of a file that is not there yet.
    pub(super) fn open(to: &Path, mode: u32) -> std::io::Result<Self> {
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

    pub(super) fn write(
        &mut self,
        data: &[u8],
        stdout: &mut (dyn FnMut(&[u8]) + Send),
    ) -> std::io::Result<()> {
        match self {
            Self::Stream => {
                stdout(data);
                Ok(())
            }
            Self::Special(file) => file.write_all(data),
            Self::File(draft, _) => draft.write_all(data),
        }
    }

    pub(super) fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Stream | Self::Special(_) => Ok(()),
            Self::File(draft, place) => {
                draft.as_file().sync_all()?;
                draft.persist(place).map(drop).map_err(|error| error.error)
            }
        }
    }
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
