//! twin's mark, as libvirt's metadata.

use serde::Serialize;

use crate::model::Mark;

/// The XML namespace of twin's mark.
pub(in crate::hypervisor::libvirt) const NAMESPACE: &str = "urn:twin:mark:1";

/// The metadata element with the mark.
#[derive(Serialize)]
pub(super) struct Metadata {
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
    pub(super) fn of(mark: &Mark) -> Self {
        let json = serde_json::to_string(mark).unwrap_or_default();
        Self {
            mark: MarkElement {
                namespace: NAMESPACE,
                json,
            },
        }
    }
}
