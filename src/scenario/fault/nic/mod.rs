//! Faults of a host's interfaces.

use super::contract::faults;

faults! {
    attach::NicAttach,
    bandwidth::NicBandwidth,
    detach::NicDetach,
    down::NicDown,
    emulate::NetEmulate,
    link::NicLink,
}
