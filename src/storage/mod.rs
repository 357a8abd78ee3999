//! Files that twin relies on: written so that a power loss cannot halve them, opened so that nobody's link leads out of their
//! directory, and removed by names that twin knows.

mod beneath;
mod durable;
mod readers;
mod removal;

pub use beneath::{Expected, open_beneath, open_directory, owned_directory};
pub use durable::{make_directory, place, remove, rename, replace, sync_directory, write};
pub use readers::{
    close_to_others, emulator, make_passage, make_shared, share, share_with_emulator, write_shared,
};
pub use removal::{Known, Left, Users, remove_known, survey};
