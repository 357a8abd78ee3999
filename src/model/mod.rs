//! What a lab is, apart from files, clocks and drivers.
//!
//! [`Topology`] is what the operator wrote, full-size. [`Placed`] is that topology as one lab on one machine: named,
//! scaled, with addresses that are free there, and with every thing's mark. [`spec`] is what a hypervisor is asked for.

pub mod place;
pub mod placement;
pub mod spec;

mod lab;
mod mark;
mod scale;
mod topology;

pub use lab::{
    Placed, PlacedHost, PlacedNetwork, attached_mac, bridge_mac, bridge_name, domain_uuid, mac_for,
};
pub use mark::{Bearing, LabRecord, Mark, Thing};
pub use scale::{Scale, ScaleError};
pub use topology::{
    AcceleratorChoice, Baseline, Compute, Dhcp, Disk, Host, ImageName, Instance, Network,
    NetworkMode, Nic, Policy, RamBacking, Service, Topology, Vip,
};
