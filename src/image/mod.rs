//! What guests boot: recipes to images, in a cache named by content.
//!
//! ```text
//!  images/micro.yaml + twin-guest ──hash──> <state>/images/micro-1a2b3c4d5e6f/{kernel,initrd,manifest.json}
//! ```
//!
//! An image is built in a directory beside its place and renamed into it, so that a build that was killed leaves nothing
//! that looks like an image.

mod cloud;
mod debian;
mod disk;
mod error;
mod hash;
mod initramfs;
mod lent;
mod measure;
mod micro;
mod modules;
mod packages;
mod pins;
pub mod qcow2;
mod recipe;
mod store;

pub use cloud::{Bases, Source, Station, seed_files, write_seed};
pub use disk::{
    CheckedDisk, Mended, blank_disk, check_disk, create_disk, grow_disk, mend_disk, remove_draft,
};
pub use error::ImageError;
pub use lent::Lent;
pub use measure::{Boot as MeasuredBoot, boot_once};
pub use recipe::{Kind, Recipe, RecipeLookup};
pub use store::Store;

/// Told what a build is at.
pub type Progress<'p> = &'p (dyn Fn(&str) + Send + Sync);
