//! Running a tool of the host, within a deadline.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::HostNetError;

/// Netlink and tools answer within this.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Runs `program`, feeding it `input`, and returns what it wrote; nothing where it is not installed.
pub(super) async fn run(
    program: &str,
    arguments: &[&str],
    input: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, HostNetError> {
    let what = [&[program], arguments].concat().join(" ");
    let failed = |why: String| HostNetError::Failed {
        what: what.clone(),
        why,
    };
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C at a terminal is for twin, which may be in the middle of an undo.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed(error.to_string()))?,
    };
    let stdin = child.stdin.take();
    let conversation = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A tool that does not read to the end says why itself.
            let _ = stdin.write_all(input).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(DEADLINE, conversation).await {
        Err(_) => return Err(failed(format!("no end within {DEADLINE:?}"))),
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
    };
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if why.contains("Operation not permitted") || why.contains("Permission denied") {
        return Err(HostNetError::Permission { what });
    }
    Err(failed(why))
}
