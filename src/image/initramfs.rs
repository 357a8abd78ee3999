//! A directory tree as a cpio archive, uncompressed: unpacking costs more under emulation than copying.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cpio::newc::{self, ModeFileType};

use super::ImageError;

/// Writes the tree below `root` to `archive`, in the order of names.
pub(super) fn write(root: &Path, archive: &Path) -> Result<(), ImageError> {
    let file =
        File::create(archive).map_err(ImageError::io(format!("making {}", archive.display())))?;
    let mut out = BufWriter::new(file);
    let mut pending: Vec<PathBuf> = vec![PathBuf::new()];
    let mut inode = 1;
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        let metadata = path
            .symlink_metadata()
            .map_err(ImageError::io(format!("reading {}", path.display())))?;
        if metadata.is_dir() {
            let mut children: Vec<PathBuf> = std::fs::read_dir(&path)
                .map_err(ImageError::io(format!("reading {}", path.display())))?
                .flatten()
                .map(|entry| relative.join(entry.file_name()))
                .collect();
            children.sort();
            pending.extend(children.into_iter().rev());
            if relative.as_os_str().is_empty() {
                continue;
            }
        }
        entry(&mut out, &path, &relative, &metadata, inode)
            .map_err(ImageError::io(format!("packing {}", relative.display())))?;
        inode += 1;
    }
    newc::trailer(&mut out).map_err(ImageError::io("ending the archive"))?;
    out.flush()
        .map_err(ImageError::io(format!("writing {}", archive.display())))
}

/// What a guest's users may do, whatever the umask of the build was.
fn mode(metadata: &std::fs::Metadata) -> u32 {
    let runs =
        metadata.is_dir() || metadata.is_symlink() || metadata.permissions().mode() & 0o100 != 0;
    if runs { 0o755 } else { 0o644 }
}

fn entry(
    out: &mut impl Write,
    path: &Path,
    relative: &Path,
    metadata: &std::fs::Metadata,
    inode: u32,
) -> std::io::Result<()> {
    let (kind, content) = if metadata.is_symlink() {
        (
            ModeFileType::Symlink,
            std::fs::read_link(path)?
                .into_os_string()
                .into_encoded_bytes(),
        )
    } else if metadata.is_dir() {
        (ModeFileType::Directory, Vec::new())
    } else {
        (ModeFileType::Regular, std::fs::read(path)?)
    };
    let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
    let builder = newc::Builder::new(&relative.to_string_lossy())
        .ino(inode)
        .nlink(if metadata.is_dir() { 2 } else { 1 })
        .mode(mode(metadata))
        .uid(0)
        .gid(0)
        // A fixed time keeps the same tree the same archive.
        .mtime(u32::try_from(metadata.mtime().min(0)).unwrap_or(0))
        .set_mode_file_type(kind);
    let mut writer = builder.write(&mut *out, size);
    writer.write_all(&content)?;
    writer.finish()?;
    Ok(())
}
