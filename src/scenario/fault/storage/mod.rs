//! Faults of a host's disks.

use super::contract::faults;

faults! {
    fill::DiskFill,
    throttle::DiskThrottle,
}
