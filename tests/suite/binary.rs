//! The command line itself.

use std::path::Path;
use std::process::{Command, Output};

/// libvirt's test driver, which has no lab of ours: a test of the command line does not see this machine's.
const NO_LABS: &str = "test:///default";

/// Runs twin in `directory` with a state directory of its own there.
pub(crate) fn twin(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twin"))
        .env("TWIN_CONNECT", NO_LABS)
        .args(["--color", "never", "--state-dir"])
        .arg(directory.join("state"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("TWIN_LAB")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("twin runs")
}
