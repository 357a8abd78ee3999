//! Which QEMU a domain would be started with: a package upgrade changes the program while processes of the old one run on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::xml;
use crate::tools::{self, Limits};

/// What each program says of itself, by its path and when it was last changed.
static KNOWN: Mutex<Option<HashMap<(PathBuf, SystemTime), String>>> = Mutex::new(None);

/// The version of the program that a definition names. Blocks.
pub(super) fn version(definition: &str) -> Result<String, String> {
    let program = xml::emulator(definition).ok_or("its definition names no emulator")?;
    let shown = program.display();
    let changed = program
        .metadata()
        .and_then(|found| found.modified())
        .map_err(|error| format!("{shown}: {error}"))?;
    let key = (program.clone(), changed);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(version) = known().get_or_insert_default().get(&key) {
        return Ok(version.clone());
    }
    let (start, words) = tools::limited(&program.to_string_lossy(), Limits::IMAGE, None);
    let output = std::process::Command::new(start)
        .args(words)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("{shown} does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = of_words(&said).ok_or_else(|| format!("{shown} says {:?}", said.trim()))?;
    known().get_or_insert_default().insert(key, version.clone());
    Ok(version)
}

/// Reads `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
fn of_words(said: &str) -> Option<String> {
    let mut words = said.split_whitespace();
    words.find(|word| *word == "version")?;
    let numbers: Vec<&str> = words.next()?.split('.').take(3).collect();
    let plain = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (numbers.len() == 3 && numbers.iter().all(plain)).then(|| format!("QEMU {}", numbers.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_a_program_tells_its_version() {
        let said = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(of_words(said).as_deref(), Some("QEMU 7.2.22"));
        for strange in ["", "version", "QEMU emulator version x", "version 1.2"] {
            assert_eq!(of_words(strange), None, "{strange}");
        }
    }
}
