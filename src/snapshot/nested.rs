//! Guests in guests. State that is captured of a guest while guests of its own run is undefined on AMD (the kernel's
//! running-nested-guests document): such a host is refused.

use std::time::Duration;

use futures::future::join_all;

use super::restore::cpu;
use super::set::Set;
use crate::guest::collect;
use crate::hypervisor::Power;
use crate::model::AcceleratorChoice;

/// A guest that runs says so within this; one whose channel is in use does not.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// Hosts that run guests of their own on a machine where that cannot be captured, a finding each.
pub(super) async fn findings(set: &Set<'_>) -> Vec<String> {
    if set.found.record.accelerator != AcceleratorChoice::Kvm || !cpu().starts_with("AuthenticAMD")
    {
        return Vec::new();
    }
    let running = set
        .found
        .hosts
        .iter()
        .filter(|host| host.domain.power == Power::Running);
    let asks = running.map(|host| async move {
        let guest = set.guest(host)?;
        // A guest that cannot be asked is found by other means, or runs nothing that could answer.
        let read = collect(guest.as_ref(), &["cat", "/proc/modules"], ANSWER).await;
        let (_, modules, _) = read.ok()?;
        runs_guests(&String::from_utf8_lossy(&modules)).then(|| {
            format!(
                "{}: it runs guests of its own, whose state AMD's processors do not let be captured",
                host.name
            )
        })
    });
    join_all(asks).await.into_iter().flatten().collect()
}

/// Whether the module that runs guests is in use, from `/proc/modules`.
fn runs_guests(modules: &str) -> bool {
    modules.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("kvm_amd") && words.nth(1).is_some_and(|users| users != "0")
    })
}

#[cfg(test)]
mod tests {
    use super::runs_guests;

    #[test]
    fn a_module_in_use_means_guests() {
        let line = |users: &str| {
            format!(
                "kvm 1155072 1 kvm_amd, Live 0x0\nkvm_amd 155648 {users} - Live 0x0\nccp 118784 1 kvm_amd, Live 0x0\n"
            )
        };
        assert!(runs_guests(&line("5")));
        assert!(!runs_guests(&line("0")));
        assert!(!runs_guests("kvm_intel 344064 3 - Live 0x0\n"));
    }
}
