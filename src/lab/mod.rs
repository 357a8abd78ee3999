//! A lab's life: up, down, release, destroy, status.
//!
//! ```text
//!            up                      down, power off
//!  (nothing) ───────> up, answering <───────────────> off
//!      ^                  │  ^   release: off and blank │
//!      └──── destroy ─────┴──┴────────────────────────-─┘
//! ```
//!
//! What there is, is read from marks, never from the journal; so every verb works on a lab whose journal is lost.

mod bases;
mod destroy;
mod drivers;
mod error;
mod execute;
mod find;
mod guardian;
mod layout;
mod leftover;
mod lock;
mod observe;
mod outage;
mod power;
mod prepare;
mod readiness;
mod space;
mod status;
mod users;
mod watch;

pub(crate) use bases::check_bases;
pub use destroy::{Destroyed, destroy, doomed, sweep};
pub use drivers::{Drivers, GuestWays, Way};
pub use error::{HostFailure, LabError};
pub use execute::{StepReport, Upped, apply};
pub use find::{Found, FoundHost, Stray, StrayKind, choose, find_all, strays};
pub use guardian::{Guardian, NoWatchdog, Standing, started};
pub use layout::Layout;
pub(crate) use layout::remove_baseline;
pub use lock::{Lock, LockError};
pub(crate) use observe::available_memory;
pub use observe::observe;
pub(crate) use outage::{damage, mend, started as started_now, switched_off};
pub use power::{BOOT_DEADLINE, down, power, releasable, release};
pub(crate) use power::{network_up, switch};
pub use prepare::{AcceleratorProbe, Prepared, Request, prepare};
pub use readiness::{Signs, answer, stopped};
pub use space::Space;
pub(crate) use space::{BLOCK_BYTES, MORE_SPACE, allocated, free_disk, together, unshared};
pub use status::{HostStatus, LabStatus, NetworkStatus, status};
pub use watch::{Event, Silent, Watch};
