//! Checksums of files.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::ImageError;

/// Returns a file's SHA-256 in hex.
pub(super) fn sha256_of(path: &Path) -> Result<String, ImageError> {
    let mut file =
        File::open(path).map_err(ImageError::io(format!("opening {}", path.display())))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0u8; 1 << 20];
    loop {
        match file
            .read(&mut piece)
            .map_err(ImageError::io(format!("reading {}", path.display())))?
        {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
