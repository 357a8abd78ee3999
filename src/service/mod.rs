//! What verbs do, without a terminal: `cli` reads flags, asks, prints, and gives exit codes.

mod at_boot;
mod copy;
mod destroy;
mod doctor;
mod error;
mod exec;
mod halt;
mod healthy;
mod power;
mod recover;
mod run;
mod runs;
mod site;
mod take;
mod up;
mod watchdog;

pub use at_boot::{Booted, after_boot, before_libvirt, labs_at_boot};
pub use copy::{CopyError, Remote, get, put};
pub use destroy::destroy;
pub use doctor::doctor;
pub use error::ServiceError;
pub use exec::{Ran, gather, stream};
pub use halt::{Halted, halt, lift_halt};
pub use healthy::healthy;
pub use power::{Switch, power};
pub use recover::{Recovery, recover};
pub use run::{run, under_test};
pub use runs::{Recorded, recorded};
pub use site::{Place, Site};
pub use take::{tried, verify};
pub use up::{Building, Pace, follow, prepare};
pub use watchdog::watch_over;
