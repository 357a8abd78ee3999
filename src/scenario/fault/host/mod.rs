//! Faults of a whole host, done by libvirt.

use super::contract::faults;

faults! {
    autostart::HostAutostart,
    balloon::MemoryBalloon,
    power::HostPower,
    release::HostRelease,
}

pub(crate) use autostart::NAME as HOST_AUTOSTART;
pub(crate) use power::power_state;
pub(crate) use release::NAME as HOST_RELEASE;
