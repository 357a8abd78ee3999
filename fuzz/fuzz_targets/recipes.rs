//! Recipes of images.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twin::image::{Recipe, RecipeLookup};

struct One<'o>(&'o str);

impl RecipeLookup for One<'_> {
    fn find(&self, _: &str) -> Option<(String, String)> {
        Some(("one.yaml".into(), self.0.to_owned()))
    }
}

fuzz_target!(|text: &str| {
    if let Ok(recipe) = Recipe::load("one", &One(text)) {
        drop(recipe.kernel_package("debian:bookworm"));
    }
});
