//! What has to be done to make what is there into what is wanted. Nothing here acts.
//!
//! [`make`] compares and returns a [`Plan`]: steps in order, each naming what would take it back; or [`Conflict`]s, when
//! something of a stranger's is in the way.

mod conflict;
mod diff;
mod disks;
mod step;

pub use conflict::{Conflict, conflicts, free_shift};
pub use diff::make;
pub use disks::{
    in_use as disk_in_use_blocks, moved as moved_disk, moved_blocks as moved_disk_blocks,
};
pub use step::{Act, Blocked, Plan, Step, Subject};

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use uuid::Uuid;

use crate::model::Mark;
use crate::model::spec::{DomainSpec, Marked, NetworkSpec};
use crate::units::{Cidr, Mac, Mib, Name};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The lab's identity.
    pub lab: Uuid,
    /// Its directory.
    pub directory: PathBuf,
    /// Its networks.
    pub networks: Vec<Marked<NetworkSpec>>,
    /// Its domains.
    pub domains: Vec<Wanted>,
    /// Hosts whose domains are made anew; their disks stay.
    pub replace: BTreeSet<Name>,
    /// Whether the disks of those hosts are discarded too.
    pub blank: bool,
    /// The command that asks for the same lab again, to be told with flags that do more.
    pub again: String,
    /// The hosts that this plan is about; all where none are named.
    pub only: Option<BTreeSet<Name>>,
}

impl Desired {
    /// The domains that this plan is about.
    pub fn chosen(&self) -> impl Iterator<Item = &Wanted> {
        self.domains.iter().filter(|wanted| {
            let name = &wanted.domain.mark.thing;
            self.only.as_ref().is_none_or(|only| only.contains(name))
        })
    }
}

/// A domain that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is asked for.
    pub domain: Marked<DomainSpec>,
    /// Whether it is waited for until the guest answers.
    pub answers: bool,
}

/// Whether a domain runs, as far as a plan cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// It runs.
    Yes,
    /// It is off.
    No,
    /// It is suspended, or crashed: reported and left.
    Stuck(&'static str),
}

/// How a domain is stuck whose disk could not be written.
pub const OUT_OF_SPACE: &str =
    "paused by QEMU: its disk could not be written, mostly for want of space";

/// A domain that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentDomain {
    /// Whether it runs.
    pub running: Running,
    /// Whether its definition outlasts its process.
    pub persistent: bool,
    /// The files that its definition has for the disks that it can write to, in order.
    pub disks: Vec<PathBuf>,
}

/// A disk file that is there, as its header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentDisk {
    /// Its size as a guest sees it.
    pub size: Mib,
    /// The file below it and its format.
    pub backing: Option<(PathBuf, String)>,
    /// Whether the file below it is there.
    pub backing_is_there: bool,
    /// Whether captured states are in it, of baselines or of another tool.
    pub holds_states: bool,
}

/// A thing that is there.
#[derive(Clone, Debug)]
pub struct Present<S> {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// Whose it is.
    pub mark: Option<Mark>,
    /// Its state.
    pub state: S,
}

/// A network that is there.
#[derive(Clone, Debug)]
pub struct PresentNetwork {
    /// Its bridge.
    pub bridge: Option<String>,
    /// Its subnet.
    pub cidr: Option<Cidr>,
    /// Whether it is up.
    pub active: bool,
}

/// A link of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresentLink {
    /// Its name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All networks of the hypervisor.
    pub networks: Vec<Present<PresentNetwork>>,
    /// All its domains.
    pub domains: Vec<Present<PresentDomain>>,
    /// This machine's links.
    pub links: Vec<PresentLink>,
    /// This machine's routes: destination and link.
    pub routes: Vec<(Cidr, Option<String>)>,
    /// Files below the lab's directory that exist, and directories that QEMU's user can pass through.
    pub files: BTreeSet<PathBuf>,
    /// Directories there that QEMU's user cannot pass through.
    pub closed: BTreeSet<PathBuf>,
    /// The disk files among them, or why one cannot be read.
    pub disks: BTreeMap<PathBuf, Result<PresentDisk, String>>,
    /// Who else uses disks of the lab, where that was looked at.
    pub users: BTreeMap<PathBuf, Vec<String>>,
    /// Memory that can be had.
    pub available_memory: Mib,
    /// Space that can be had on the state disk.
    pub free_disk: Mib,
}

/// The alias that marks a bridge as a lab's.
pub fn bridge_mark(lab: Uuid) -> String {
    format!("twin:{lab}")
}

/// The name of the bridge table that holds a lab's packets back while its hosts are put back.
pub fn hold_table(lab: Uuid) -> String {
    format!("{}_hold", table_name(lab))
}

/// The name of a lab's nftables table.
pub fn table_name(lab: Uuid) -> String {
    format!("twin_{}", &lab.simple().to_string()[..12])
}
