//! Image recipes: `twin/image/v1`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ImageError;
use crate::storage;
use crate::units::{Mib, Name};

/// Recipes that come with twin.
const BUILT_IN: &[(&str, &str)] = &[
    ("micro", include_str!("../../images/micro.yaml")),
    ("debian", include_str!("../../images/debian.yaml")),
];

/// Which builder makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A kernel and an initial RAM file system that is the whole guest.
    Initramfs,
    /// A kernel, its initial RAM file system, and a root file system on disk.
    Rootfs,
}

/// A recipe.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    schema: String,
    /// Its name.
    pub name: Name,
    /// Which builder makes it.
    pub kind: Kind,
    /// The kernel's package by distribution id.
    pub kernel: BTreeMap<String, String>,
    /// Packages that files are taken from.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Kernel modules loaded at boot, in order.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Kernel modules that are merely present.
    #[serde(default)]
    pub extra_modules: Vec<String>,
    /// Programs, with the libraries they need.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Path and text of further files.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Path and target of symbolic links.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// The kernel's command line.
    pub cmdline: String,
    /// The size of a root file system.
    pub size: Option<Mib>,
    /// The recipe's own text, which its hash covers.
    #[serde(skip)]
    pub text: String,
}

/// Where recipes of the operator's come from.
pub trait RecipeLookup {
    /// Returns the file for a name: its path as shown and its text.
    fn find(&self, name: &str) -> Option<(String, String)>;
}

impl Recipe {
    /// The text of the recipe of that name that comes with twin.
    pub fn built_in(name: &str) -> Option<&'static str> {
        let mut all = BUILT_IN.iter();
        all.find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// Finds and reads a recipe: the operator's own, else one that comes with twin.
    pub fn load(name: &str, lookup: &dyn RecipeLookup) -> Result<Self, ImageError> {
        let built_in = || {
            BUILT_IN
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(known, text)| (format!("{known}.yaml (built in)"), (*text).to_owned()))
        };
        let Some((path, text)) = lookup.find(name).or_else(built_in) else {
            let known = BUILT_IN
                .iter()
                .map(|(known, _)| (*known).to_owned())
                .chain(["cloud".into(), "pxe".into()])
                .collect();
            return Err(ImageError::Unknown {
                name: name.to_owned(),
                known,
            });
        };
        let wrong = |why: String| ImageError::Recipe {
            path: path.clone(),
            why,
        };
        let mut recipe: Self =
            serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if recipe.schema != "twin/image/v1" {
            return Err(wrong(format!(
                "its schema is {}, and this twin reads twin/image/v1",
                recipe.schema
            )));
        }
        recipe.text = text;
        recipe.check().map_err(wrong)?;
        Ok(recipe)
    }

    /// Refuses names that a tool would take for options, and paths that lead out of the image.
    fn check(&self) -> Result<(), String> {
        let paths = self
            .files
            .keys()
            .chain(self.links.keys())
            .chain(&self.programs);
        if let Some(path) = paths.into_iter().find(|path| !storage::is_tree_path(path)) {
            return Err(format!(
                "{path:?} is no path in the image: it has no .. in it"
            ));
        }
        let package = |name: &&String| {
            let first = name
                .bytes()
                .next()
                .is_some_and(|one| one.is_ascii_alphanumeric());
            first
                && name
                    .bytes()
                    .all(|one| one.is_ascii_alphanumeric() || b"+-.:".contains(&one))
        };
        let mut packages = self.packages.iter().chain(self.kernel.values());
        if let Some(name) = packages.find(|name| !package(name)) {
            return Err(format!("{name:?} is no package's name"));
        }
        let module = |name: &&String| {
            let plain = |one: u8| one.is_ascii_alphanumeric() || b"_-".contains(&one);
            !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
        };
        let mut modules = self.modules.iter().chain(&self.extra_modules);
        if let Some(name) = modules.find(|name| !module(name)) {
            return Err(format!("{name:?} is no kernel module's name"));
        }
        Ok(())
    }

    /// Returns the kernel's package for this machine's distribution.
    pub fn kernel_package(&self, distribution: &str) -> Result<&str, ImageError> {
        self.kernel
            .get(distribution)
            .map(String::as_str)
            .ok_or_else(|| ImageError::Recipe {
                path: format!("{}.yaml", self.name),
                why: format!("it names no kernel for {distribution}"),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl RecipeLookup for Nothing {
        fn find(&self, _: &str) -> Option<(String, String)> {
            None
        }
    }

    struct One(String);
    impl RecipeLookup for One {
        fn find(&self, _: &str) -> Option<(String, String)> {
            Some(("micro.yaml".into(), self.0.clone()))
        }
    }

    #[test]
    fn b6_a_recipe_names_nothing_outside_of_the_image_and_no_option() {
        let (_, own) = BUILT_IN[0];
        let lines: Vec<&str> = own.lines().filter(|line| !line.starts_with(' ')).collect();
        assert!(!lines.is_empty());
        let hostile = [
            "files: {\"../../etc/cron.d/x\": \"* * * * * root id\"}",
            "files: {\"/a/../../b\": x}",
            "links: {\"../x\": /}",
            "programs: [\"../../../../etc/shadow\"]",
            "packages: [\"-oDir::Etc=/tmp\"]",
            "modules: [\"--config\"]",
        ];
        for line in hostile {
            let text = format!(
                "schema: twin/image/v1\nname: micro\nkind: initramfs\nkernel: {{debian: linux-image-amd64}}\ncmdline: quiet\n{line}\n"
            );
            let refused = Recipe::load("micro", &One(text));
            assert!(
                matches!(refused, Err(ImageError::Recipe { .. })),
                "{line}: {refused:?}"
            );
        }
    }

    #[test]
    fn built_in_recipes_read_well() {
        for (name, _) in BUILT_IN {
            let recipe = Recipe::load(name, &Nothing).expect("valid");
            assert_eq!(recipe.name.as_str(), *name);
            assert!(recipe.kernel_package("debian").is_ok());
        }
        assert!(matches!(
            Recipe::load("mikro", &Nothing),
            Err(ImageError::Unknown { .. })
        ));
    }
}
