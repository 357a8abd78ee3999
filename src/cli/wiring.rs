//! The only choice of drivers.

use std::sync::Arc;

use super::guard;
use crate::clock::SystemClock;
use crate::guest::{Guest, Ssh, TwinGuest};
use crate::hostnet::{HostNet, LinuxNet};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::libvirt::Libvirt;
use crate::lab::{Drivers, GuestWays, Way};

/// Ways into real guests.
struct RealWays;

impl GuestWays for RealWays {
    fn open(&self, way: &Way) -> Arc<dyn Guest> {
        match way {
            Way::Channel { socket, .. } => Arc::new(TwinGuest::new(socket.clone())),
            Way::Ssh {
                address,
                key,
                known,
            } => Arc::new(Ssh::new(*address, key.clone(), known.clone())),
        }
    }
}

/// Returns the drivers of the world `lab`.
pub fn lab(uri: &str) -> Drivers {
    Drivers {
        hypervisor: Hypervisor::of(Libvirt::new(uri)),
        hostnet: HostNet::of(LinuxNet),
        guests: Arc::new(RealWays),
        clock: Arc::new(SystemClock::default()),
        guardian: guard::guardian(uri),
    }
}
