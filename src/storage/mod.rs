//! Files that twin relies on: written so that a power loss cannot halve them, opened so that no link leads out of their
//! directory, and removed by names that twin knows.

mod beneath;
mod durable;
mod readers;
mod removal;
mod tree;

pub use beneath::{Expected, Guarded, open_beneath, open_directory, owned_directory, text_beneath};
pub use durable::{
    make_directory, place, remove, rename, replace, sync_directory, sync_file, write,
};
pub use readers::{
    LET_PASS, close_to_others, emulator, for_the_caller, is_passage, make_passage, make_shared,
    see_to_passage, share, share_with_emulator, write_shared,
};
pub use removal::{Known, Left, Users, remove_known, survey};
pub use tree::{Tree, is_tree_path};
