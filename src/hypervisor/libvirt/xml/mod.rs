//! libvirt's XML: written from specs, read for marks. No libvirt types.

mod domain;
mod mark;
mod network;
mod read;

pub(super) use domain::{domain, one_interface};
pub(super) use mark::NAMESPACE;
pub(super) use network::network;
pub(super) use read::{
    bridge_and_subnet, console, devices, disk_files, emulator, identity, interface, mark,
    mark_in_element, parts, paths, with_link, writable_disks,
};
