//! The command line itself.

use std::path::Path;
use std::process::{Command, Output};

/// Runs twin in `directory` with a state directory of its own there.
pub(crate) fn twin(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twin"))
        .args(["--color", "never", "--state-dir"])
        .arg(directory.join("state"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("TWIN_LAB")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("twin runs")
}
