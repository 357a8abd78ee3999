//! The mark that a thing of a lab carries.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AcceleratorChoice, Scale};
use crate::units::Name;

/// What is decided once, when a lab is made. Each of the lab's things carries it, so that any one of them tells the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabRecord {
    /// The lab's identity.
    pub uuid: Uuid,
    /// Its name.
    pub name: Name,
    /// The topology it was made from.
    pub topology: Name,
    /// What payload sizes are divided by.
    pub scale: Scale,
    /// How guests are run.
    pub accelerator: AcceleratorChoice,
    /// How many addresses every network is moved up by; 0 in the default lab.
    pub shift: u32,
    /// Stand-in timers over 60 s are divided by this.
    pub time_scale: u32,
    /// The state directory that holds the lab's files. Marks of before 2026-12 do not name it: there the paths in the
    /// specs tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
}

/// The mark on a thing: the lab's, and what the thing is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The lab.
    pub lab: LabRecord,
    /// The host or network.
    pub thing: Name,
    /// What was asked for when the thing was made, as JSON of its spec: compared to find changes.
    pub spec: serde_json::Value,
}

/// What a mark says of the thing that carries it.
#[derive(Clone, Debug, PartialEq)]
pub enum Bearing {
    /// The mark is this thing's own: kind, UUID and name are those that it was made with.
    Own(Mark),
    /// The mark is another thing's. `virt-clone` and an edited `virsh dumpxml` keep the metadata.
    Foreign(Mark),
}

impl Mark {
    /// Tells whether the thing of kind `S` with this UUID and name is the one that the mark was made for.
    pub fn borne_by<S: Thing>(self, uuid: Uuid, name: &str) -> Bearing {
        let own = serde_json::from_value::<S>(self.spec.clone())
            .is_ok_and(|spec| spec.uuid() == uuid && spec.name() == name);
        if own {
            Bearing::Own(self)
        } else {
            Bearing::Foreign(self)
        }
    }

    /// The name that the mark's own thing has in the hypervisor, `h-a`.
    pub fn made_for(&self) -> String {
        let name = self.spec["name"].as_str();
        name.map_or_else(|| self.thing.to_string(), str::to_owned)
    }

    /// The UUID of the mark's own thing.
    pub fn made_for_uuid(&self) -> Option<Uuid> {
        self.spec["uuid"].as_str()?.parse().ok()
    }
}

impl Bearing {
    /// Splits into the thing's own mark and another's.
    pub fn split(bearing: Option<Self>) -> (Option<Mark>, Option<Mark>) {
        match bearing {
            Some(Self::Own(mark)) => (Some(mark), None),
            Some(Self::Foreign(mark)) => (None, Some(mark)),
            None => (None, None),
        }
    }
}

/// What a spec describes: a thing with an identity of its own.
pub trait Thing: serde::de::DeserializeOwned {
    /// Its UUID.
    fn uuid(&self) -> Uuid;

    /// Its name in the hypervisor.
    fn name(&self) -> &str;
}
