//! Running short programs inside a guest, for actions and probes.

use std::time::Duration;

use crate::guest::collect;
use crate::scenario::{FaultError, World};

/// What such a program may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a program; returns its exit code, output and errors.
pub(crate) async fn attempt(
    world: &World,
    host: &str,
    argv: &[&str],
) -> Result<(i32, String, String), FaultError> {
    let guest = world.guest(host)?;
    let (code, stdout, stderr) = collect(guest.as_ref(), argv, DEADLINE).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((code, text(stdout), text(stderr)))
}

/// Runs a program that has to end with 0; returns its output.
pub(crate) async fn run(world: &World, host: &str, argv: &[&str]) -> Result<String, FaultError> {
    let (code, stdout, stderr) = attempt(world, host, argv).await?;
    if code == 0 {
        return Ok(stdout);
    }
    // A script is named by its shell.
    let named: Vec<&str> = argv
        .iter()
        .copied()
        .filter(|word| !word.contains('\n'))
        .collect();
    Err(FaultError::Target(format!(
        "{} on {host} ended with {code}: {}",
        named.join(" "),
        stderr.trim()
    )))
}

/// Runs a script of the shell that has to end with 0; returns its output.
pub(crate) async fn script(world: &World, host: &str, script: &str) -> Result<String, FaultError> {
    run(world, host, &["sh", "-ec", script]).await
}
