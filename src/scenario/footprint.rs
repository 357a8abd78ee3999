//! What a fault sets, and what its revert relies on: from these follow the hosts that it acts on, the order of reverts, and what a
//! host that goes off, or a baseline, puts an end to.
//!
//! Places of a host are named from the outside in. What is below `memory` ends with its guest's memory, what is below `inside`
//! is in the host all the same, and what is below `machine` is this machine's.

use std::collections::BTreeSet;

/// What is in a guest's memory alone.
pub(super) const MEMORY: &str = "memory";
/// What is inside a host.
pub(super) const INSIDE: &str = "inside";
/// What this machine has of a host.
pub(super) const MACHINE: &str = "machine";

/// Interfaces that were plugged in, of this machine's.
pub(super) const PLUGGED: &[&str] = &[MACHINE, "plugged"];
/// Disks that are in the host's place.
pub(super) const DISKS: &[&str] = &[MACHINE, "disks"];
/// What libvirt has written down of a domain, whatever that does.
pub(super) const SETTINGS: &[&str] = &[MACHINE, "settings"];

/// A place of a host, or of this machine alone, from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: Option<String>,
    parts: Vec<String>,
}

impl Place {
    /// Whether one place is the other, or in it.
    fn meets(&self, other: &Self) -> bool {
        let mut parts = self.parts.iter().zip(&other.parts);
        self.host == other.host && parts.all(|(own, other)| own == other)
    }

    fn is_below(&self, root: &[&str]) -> bool {
        self.parts.len() >= root.len() && self.parts.iter().zip(root).all(|(own, root)| own == root)
    }
}

/// What a fault sets, and what its revert relies on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    /// The host of the places that are added.
    host: Option<String>,
    sets: Vec<Place>,
    reads: Vec<Place>,
}

impl Footprint {
    /// One on a host.
    pub(super) fn of_host(host: &str) -> Self {
        Self {
            host: Some(host.to_owned()),
            ..Self::default()
        }
    }

    /// One on this machine, of which no host has a part.
    pub(super) fn of_machine() -> Self {
        Self::default()
    }

    /// One on several hosts, the same on each.
    pub(super) fn of_hosts<'h>(
        hosts: impl IntoIterator<Item = &'h str>,
        of: impl Fn(Self) -> Self,
    ) -> Self {
        let mut all = Self::default();
        for host in hosts {
            let one = of(Self::of_host(host));
            all.sets.extend(one.sets);
            all.reads.extend(one.reads);
        }
        all
    }

    fn place(&self, parts: &[&str]) -> Place {
        Place {
            host: self.host.clone(),
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    /// Adds what it sets.
    pub(super) fn sets(mut self, parts: &[&str]) -> Self {
        self.sets.push(self.place(parts));
        self
    }

    /// Adds what it captured, or takes away, and does not set.
    pub(super) fn reads(mut self, parts: &[&str]) -> Self {
        self.reads.push(self.place(parts));
        self
    }

    /// Adds what it sets to what it captured before.
    pub(super) fn owns(self, parts: &[&str]) -> Self {
        self.sets(parts).reads(parts)
    }

    /// Of a fault that this twin does not know.
    pub(super) fn unknown(fault: &str, host: Option<&str>, outside: bool) -> Self {
        let root = if outside { MACHINE } else { INSIDE };
        let of = host.map_or_else(Self::of_machine, Self::of_host);
        of.owns(&[root, "unknown", fault])
    }

    /// The hosts that it sets something of, sorted.
    pub(super) fn hosts(&self) -> Vec<String> {
        let hosts: BTreeSet<&String> = self
            .sets
            .iter()
            .filter_map(|set| set.host.as_ref())
            .collect();
        hosts.into_iter().cloned().collect()
    }

    /// Whether it captured what an earlier fault has changed, or took away what the earlier one's revert needs: then the earlier
    /// one is reverted after it.
    pub(super) fn stands_on(&self, earlier: &Self) -> bool {
        let mut reads = self.reads.iter();
        reads.any(|read| earlier.sets.iter().any(|set| read.meets(set)))
    }

    fn sets_only(&self, root: &[&str]) -> bool {
        !self.sets.is_empty() && self.sets.iter().all(|set| set.is_below(root))
    }

    /// Whether it has ended once the guest is off.
    pub(super) fn is_in_memory(&self) -> bool {
        self.sets_only(&[MEMORY])
    }

    /// Whether it may be reverted whatever else is done to the host.
    pub(super) fn is_apart(&self) -> bool {
        self.sets_only(SETTINGS)
    }

    /// Whether it is done to this machine rather than inside a host: then a baseline of the hosts does not put it back.
    pub(super) fn is_outside(&self) -> bool {
        self.sets_only(&[MACHINE])
    }

    /// Whether it puts a host's disks aside, and others in their place.
    pub(super) fn puts_disks_aside(&self) -> bool {
        self.sets.iter().any(|set| set.is_below(DISKS))
    }
}
