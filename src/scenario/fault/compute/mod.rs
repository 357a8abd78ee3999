//! Faults of nova-compute and of the instances on a host.

use super::contract::faults;

faults! {
    boot::InstanceBoot,
    fill::InstanceFill,
    kill::InstanceKill,
    reserve::ComputeReserve,
    resume::ComputeResume,
    touch::InstanceTouch,
}

pub(crate) use fill::{allocated, flavor, inventory};
pub(crate) use kill::instance;
