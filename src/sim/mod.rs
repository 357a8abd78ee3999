//! The simulated world: hypervisor, guests, host network and clock over one seeded state, in virtual time.
//!
//! It holds plain state so far, no physics: powers, networks, links, services, instances, files, routes, rules. Time is tokio's,
//! which a test starts paused: it stands still while anything runs and leaps to the next timer when nothing does. The same
//! seed gives the same world.

mod capture;
mod faulty;
mod guest;
mod hostnet;
mod hypervisor;
mod shell;
mod world;

pub use faulty::{Decide, Fate, faulty};
pub use guest::SimGuest;
pub use hostnet::SimNet;
pub use hypervisor::SimHypervisor;
pub use world::{Sabotage, SimClock, SimWorld};
