//! What verbs do, without a terminal: `cli` reads flags, asks, prints, and gives exit codes.

mod at_boot;
mod error;
mod halt;
mod healthy;
mod recover;
mod site;
mod watchdog;

pub use at_boot::{Booted, after_boot, before_libvirt, labs_at_boot};
pub use error::ServiceError;
pub use halt::{Halted, halt, lift_halt};
pub use healthy::healthy;
pub use recover::{Recovery, recover};
pub use site::{Place, Site};
pub use watchdog::watch_over;
