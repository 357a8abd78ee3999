//! What an act sets, and what its revert relies on: from these follow the order of reverts, and what a host that goes off, or a
//! baseline, puts an end to.
//!
//! Places of a host are named from the outside in. What is below `memory` ends with its guest's memory, what is below `inside`
//! is in the host all the same, and what is below `machine` is this machine's.

use serde_json::Value;

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

/// A place, from the outside in.
type Place = Vec<String>;

/// What an act sets, and what its revert relies on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    sets: Vec<Place>,
    reads: Vec<Place>,
}

/// The text of an argument, as a name of a place.
pub(super) fn text<'v>(captured: &'v Value, key: &str) -> &'v str {
    captured[key].as_str().unwrap_or_default()
}

fn place(parts: &[&str]) -> Place {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// Whether one place is the other, or in it.
fn meet(one: &Place, other: &Place) -> bool {
    one.iter().zip(other).all(|(one, other)| one == other)
}

impl Footprint {
    /// Adds what it sets.
    pub(super) fn sets(mut self, parts: &[&str]) -> Self {
        self.sets.push(place(parts));
        self
    }

    /// Adds what it captured, or takes away, and does not set.
    pub(super) fn reads(mut self, parts: &[&str]) -> Self {
        self.reads.push(place(parts));
        self
    }

    /// Adds what it sets to what it captured before.
    pub(super) fn owns(self, parts: &[&str]) -> Self {
        self.sets(parts).reads(parts)
    }

    /// Of an action that this twin does not know.
    pub(super) fn unknown(action: &str, outside: bool) -> Self {
        let root = if outside { MACHINE } else { INSIDE };
        Self::default().owns(&[root, "unknown", action])
    }

    /// Whether it captured what an earlier act has changed, or took away what the earlier one's revert needs: then the earlier
    /// one is reverted after it.
    pub(super) fn stands_on(&self, earlier: &Self) -> bool {
        let mut reads = self.reads.iter();
        reads.any(|read| earlier.sets.iter().any(|set| meet(read, set)))
    }

    fn sets_only(&self, root: &[&str]) -> bool {
        let root = place(root);
        !self.sets.is_empty() && self.sets.iter().all(|set| set.starts_with(&root))
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
        let disks = place(DISKS);
        self.sets.iter().any(|set| set.starts_with(&disks))
    }
}
