//! libvirt's XML: written from specs, read for marks. No libvirt types.

mod domain;
mod network;
mod read;

pub(super) use domain::{domain, one_interface};
pub(super) use network::network;
pub(super) use read::{
    bridge_and_subnet, console, devices, disk_files, emulator, identity, interface, mark,
    mark_in_element, parts, paths, with_link, writable_disks,
};

use serde::Serialize;

use crate::model::Mark;

/// The XML namespace of twin's mark.
pub(super) const NAMESPACE: &str = "urn:twin:mark:1";

/// The metadata element with the mark.
#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "twin:mark")]
    mark: MarkElement,
}

#[derive(Serialize)]
struct MarkElement {
    #[serde(rename = "@xmlns:twin")]
    namespace: &'static str,
    #[serde(rename = "$text")]
    json: String,
}

impl Metadata {
    fn of(mark: &Mark) -> Self {
        let json = serde_json::to_string(mark).unwrap_or_default();
        Self {
            mark: MarkElement {
                namespace: NAMESPACE,
                json,
            },
        }
    }
}
