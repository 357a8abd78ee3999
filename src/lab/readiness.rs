//! Waiting until a guest answers, and saying what was last seen when it does not.

use std::path::Path;
use std::time::Duration;

use super::{Drivers, HostFailure};
use crate::guest::{Greeting, Guest};
use crate::hypervisor::{Power, Target};

/// How often the domain's power is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How much of a serial log's end is searched.
const TAIL_BYTES: u64 = 64 * 1024;

/// Waits until the guest answers. Ends early when its domain is no longer running.
pub async fn answer(
    drivers: &Drivers,
    guest: &dyn Guest,
    target: Target,
    name: &str,
    serial_log: &Path,
    deadline: Duration,
) -> Result<Greeting, HostFailure> {
    let failure = |why: String, cure: String| HostFailure {
        thing: name.to_owned(),
        why,
        cure,
    };
    let stopped = async {
        loop {
            drivers.clock.sleep(LOOK).await;
            match drivers.hypervisor.power_state(target).await {
                Ok(Power::Running | Power::Paused) | Err(_) => {}
                Ok(power) => return power,
            }
        }
    };
    tokio::select! {
        greeted = guest.greet(deadline) => match greeted {
            Ok(greeting) if greeting.problems.is_empty() => Ok(greeting),
            Ok(greeting) => Err(failure(
                format!("the guest could not set itself up: {}", greeting.problems.join("; ")),
                format!("look at it with `twin console {name}`; `twin up --replace {name}` makes it anew"),
            )),
            Err(error) => {
                let seen = last_seen(serial_log);
                let cure = format!("`twin console {name}` shows more; then `twin up` again, or `twin up --replace {name}`");
                Err(failure(format!("{error}; {seen}"), cure))
            }
        },
        power = stopped => {
            let seen = last_seen(serial_log);
            let what = if power == Power::Crashed { "the guest crashed" } else { "the domain stopped" };
            Err(failure(format!("{what} before it answered; {seen}"), format!("`twin power cycle {name}` starts it anew; then `twin up` again")))
        }
    }
}

/// Returns what a serial log ends with: a panic where there is one, else its last line.
fn last_seen(serial_log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(serial_log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let Ok(tail) = read() else {
        return format!("there is no serial log {}", serial_log.display());
    };
    let text = String::from_utf8_lossy(&tail);
    if let Some(panic) = text.lines().find(|line| line.contains("Kernel panic")) {
        return format!("its console says: {}", panic.trim());
    }
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("its console ends with: {}", line.trim()),
        None => "its console is empty: it has not come as far as its kernel's first line".into(),
    }
}
