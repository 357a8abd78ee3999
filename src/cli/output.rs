//! Files that a verb writes for people.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::failure::{DONE, Failure};
use crate::storage;

/// Writes a file of the user's.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        if let Some(parent) = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            std::fs::create_dir_all(parent)?;
        }
        let new = !file.exists();
        std::fs::write(file, text)?;
        if new {
            let mode = storage::for_the_caller(0o666);
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    write().map_err(|error| {
        let cure = "give --output a file in a directory of your own".to_owned();
        Failure::machine(
            format!("{} cannot be written: {error}", file.display()),
            vec![cure],
        )
    })
}

/// Has the desktop open a file.
pub(crate) fn open(file: &Path) -> Result<u8, Failure> {
    let opened = std::process::Command::new("xdg-open")
        .arg(file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    match opened {
        Ok(status) if status.success() => DONE,
        other => {
            let why = other.map_or_else(|error| error.to_string(), |status| status.to_string());
            let cure = format!("open {} in a browser", file.display());
            Err(Failure::machine(
                format!("xdg-open did not open it: {why}"),
                vec![cure],
            ))
        }
    }
}
