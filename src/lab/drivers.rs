//! The drivers that a lab is built through.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::Guardian;
use crate::clock::Clock;
use crate::guest::Guest;
use crate::hostnet::HostNet;
use crate::hypervisor::Hypervisor;

/// Where a guest can be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// twin-guest's channel.
    Channel {
        /// The domain.
        domain: Uuid,
        /// Its socket.
        socket: PathBuf,
    },
    /// SSH.
    Ssh {
        /// The guest's address.
        address: Ipv4Addr,
        /// The private key's file.
        key: PathBuf,
        /// The file with the guest's host key.
        known: PathBuf,
    },
}

/// Opens ways into guests.
pub trait GuestWays: Send + Sync {
    /// Opens one; nothing is sent yet.
    fn open(&self, way: &Way) -> Arc<dyn Guest>;
}

/// All drivers.
#[derive(Clone)]
pub struct Drivers {
    /// The hypervisor.
    pub hypervisor: Hypervisor,
    /// This machine's network.
    pub hostnet: HostNet,
    /// Ways into guests.
    pub guests: Arc<dyn GuestWays>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who finishes what this process began, should it die.
    pub guardian: Arc<dyn Guardian>,
}
