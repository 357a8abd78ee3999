//! Waiting until a guest answers, and saying what was last seen when it does not.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::{Drivers, HostFailure};
use crate::guest::{Greeting, Guest};
use crate::hostnet::Connection;
use crate::hypervisor::{Power, Target};
use crate::storage::Guarded;
use crate::units::Mac;

/// How often the domain's power is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How much of a serial log's end is searched.
const TAIL_BYTES: u64 = 64 * 1024;

/// A port that every kernel answers for, if only by refusing.
const KNOCK_PORT: u16 = 22;

/// Longer than the kernel asks for an Ethernet address before it gives up.
const KNOCK: Duration = Duration::from_secs(4);

/// The first line of each boot of Linux.
const BOOT: &str = "Linux version";

/// What can be seen of a guest from outside, before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Its address on a network that this machine is on.
    pub address: Option<Ipv4Addr>,
    /// The bridge on which it asks for an address, and with which Ethernet address, where it asks.
    pub asks_on: Option<(String, Mac)>,
}

impl Signs {
    /// Looks at them, in words.
    async fn seen(&self, drivers: &Drivers) -> Vec<String> {
        let mut seen = Vec::new();
        if let Some((bridge, mac)) = &self.asks_on {
            match drivers.hostnet.links.leases(bridge).await {
                Ok(leases) => match leases.iter().find(|(of, _)| of == mac) {
                    Some((_, address)) => seen.push(format!("it has the lease of {address}")),
                    None => seen.push(format!("no lease: {mac} has none on {bridge}")),
                },
                Err(error) => seen.push(format!("whether it has a lease is not known: {error}")),
            }
        }
        if let Some(address) = self.address {
            let knock = drivers
                .hostnet
                .reach
                .connect(address, KNOCK_PORT, KNOCK)
                .await;
            seen.push(match knock {
                Connection::Open | Connection::Refused => {
                    format!("its network answers at {address}")
                }
                Connection::TimedOut => format!("nothing comes back from {address}"),
                Connection::Unreachable { .. } => format!("no ARP: no host answers at {address}"),
            });
        }
        seen
    }
}

/// Waits until a domain that was started is off or has crashed; returns which. A hypervisor that does not answer for a moment
/// is asked again.
pub async fn stopped(drivers: &Drivers, target: Target) -> Power {
    loop {
        drivers.clock.sleep(LOOK).await;
        match drivers.hypervisor.domain.power_state(target).await {
            Ok(Power::Running | Power::Paused) | Err(_) => {}
            Ok(power) => return power,
        }
    }
}

/// Waits until the guest answers. Ends early when its domain is no longer running.
pub async fn answer(
    drivers: &Drivers,
    guest: &dyn Guest,
    target: Target,
    name: &str,
    serial_log: &Path,
    signs: &Signs,
    deadline: Duration,
) -> Result<Greeting, HostFailure> {
    let failure = |why: String, cure: String| HostFailure {
        thing: name.to_owned(),
        why,
        cure,
    };
    tokio::select! {
        greeted = guest.greet(deadline) => match greeted {
            Ok(greeting) if greeting.problems.is_empty() => Ok(greeting),
            Ok(greeting) => Err(failure(
                format!("the guest could not set itself up: {}", greeting.problems.join("; ")),
                format!("look at it with `twin console {name}`; `twin up TOPOLOGY --replace {name}` makes it anew; its disks stay"),
            )),
            Err(error) => {
                let mut seen = signs.seen(drivers).await;
                seen.push(last_seen(serial_log));
                let seen = seen.join("; ");
                let cure = format!("`twin console {name}` shows more; then run the same command again, with --timeout where the guest is slow, or with --replace {name}");
                Err(failure(format!("{error}; {seen}"), cure))
            }
        },
        power = stopped(drivers, target) => {
            let seen = last_seen(serial_log);
            let what = if power == Power::Crashed { "the guest crashed" } else { "the domain stopped" };
            Err(failure(format!("{what} before it answered; {seen}"), format!("`twin power cycle {name}` starts it anew; then run the same command again")))
        }
    }
}

/// Returns what a serial log ends with: a panic where there is one, else its last line.
fn last_seen(serial_log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = Guarded::at(serial_log).open()?;
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
    // A log goes on over boots: what an earlier one ended with is over.
    let text = text.rfind(BOOT).map_or(&*text, |at| &text[at..]);
    if let Some(panic) = text.lines().find(|line| line.contains("Kernel panic")) {
        return format!("its console says: {}", panic.trim());
    }
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("its console ends with: {}", line.trim()),
        None => "its console is empty: it has not come as far as its kernel's first line".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(log: &str) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), log).expect("written");
        last_seen(file.path())
    }

    #[test]
    fn a_panic_of_this_boot_is_told_and_one_of_an_earlier_boot_is_not() {
        let panic = "[    0.0] Linux version 6.1\n[    2.0] Kernel panic - not syncing: first\n";
        assert_eq!(
            seen(panic),
            "its console says: [    2.0] Kernel panic - not syncing: first"
        );
        let again =
            format!("{panic}[    0.0] Linux version 6.1\n[    1.0] random: crng init done\n");
        assert_eq!(
            seen(&again),
            "its console ends with: [    1.0] random: crng init done"
        );
        assert!(seen("").contains("empty"));
    }
}
