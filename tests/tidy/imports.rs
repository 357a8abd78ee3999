//! Which file takes names from which: read from the code's own syntax, through re-exports to the file that defines a name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// What a module's name stands for.
#[derive(Clone, Debug)]
enum Meaning {
    /// Defined in this file.
    Here(usize),
    /// A module of its own.
    Module(Vec<String>),
    /// A re-export or an import: a path from the crate's root.
    Elsewhere(Vec<String>),
}

#[derive(Debug, Default)]
struct Module {
    names: BTreeMap<String, Meaning>,
    /// Modules whose public names are all here too.
    globs: Vec<Vec<String>>,
}

/// The files of the library and what each takes from which other.
pub(crate) struct Imports {
    files: Vec<PathBuf>,
    modules: BTreeMap<Vec<String>, Module>,
    /// From a file, to a file: the names.
    arrows: BTreeMap<(usize, usize), BTreeSet<String>>,
}

/// Two or more files of which each reaches each by imports.
pub(crate) type Circle = BTreeSet<PathBuf>;

impl Imports {
    /// Of the crate whose root is `root`; files below `bin` are left out, and so are tests.
    pub(crate) fn read(root: &Path) -> Self {
        let mut read = Self {
            files: Vec::new(),
            modules: BTreeMap::new(),
            arrows: BTreeMap::new(),
        };
        let mut parsed = Vec::new();
        read.file(&root.join("lib.rs"), Vec::new(), &mut parsed);
        for (file, module, items) in &parsed {
            let mut paths = Paths::default();
            for item in items.iter().filter(|item| !is_test(item)) {
                paths.visit_item(item);
            }
            let mut used = BTreeSet::new();
            for item in items {
                if let syn::Item::Use(item) = item
                    && !is_test(&syn::Item::Use(item.clone()))
                {
                    let private = matches!(item.vis, syn::Visibility::Inherited);
                    leaves(&item.tree, &mut Vec::new(), &mut |path, name, _| {
                        // A name that is only passed on is imported where it is used.
                        if private || paths.words.contains(name) {
                            used.insert(path.to_vec());
                        }
                    });
                }
            }
            for path in paths.found.union(&used) {
                if let Some(target) = read.defining(module, path, 0)
                    && target != *file
                {
                    let names = read.arrows.entry((*file, target)).or_default();
                    names.insert(path.last().cloned().unwrap_or_default());
                }
            }
        }
        read
    }

    fn file(
        &mut self,
        path: &Path,
        module: Vec<String>,
        parsed: &mut Vec<(usize, Vec<String>, Vec<syn::Item>)>,
    ) {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let syntax =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = self.files.len();
        self.files.push(path.to_owned());
        let folder = match path.file_name().and_then(|name| name.to_str()) {
            Some("mod.rs" | "lib.rs") => path.parent().expect("a folder").to_owned(),
            _ => path.with_extension(""),
        };
        self.items(file, &folder, module, syntax.items, parsed);
    }

    fn items(
        &mut self,
        file: usize,
        folder: &Path,
        module: Vec<String>,
        items: Vec<syn::Item>,
        parsed: &mut Vec<(usize, Vec<String>, Vec<syn::Item>)>,
    ) {
        let mut here = Module::default();
        let mut kept = Vec::new();
        for item in items {
            if is_test(&item) {
                continue;
            }
            if let syn::Item::Mod(inner) = item {
                let mut path = module.clone();
                path.push(inner.ident.to_string());
                here.names
                    .insert(inner.ident.to_string(), Meaning::Module(path.clone()));
                if let Some((_, items)) = inner.content {
                    self.items(
                        file,
                        &folder.join(inner.ident.to_string()),
                        path,
                        items,
                        parsed,
                    );
                } else {
                    let name = inner.ident.to_string();
                    let flat = folder.join(format!("{name}.rs"));
                    let deep = folder.join(&name).join("mod.rs");
                    self.file(if flat.exists() { &flat } else { &deep }, path, parsed);
                }
                continue;
            }
            if let syn::Item::Use(item) = &item {
                leaves(&item.tree, &mut Vec::new(), &mut |path, name, glob| {
                    let path = absolute(&module, path);
                    if glob {
                        here.globs.push(path);
                    } else if name != "_" {
                        here.names.insert(name.to_owned(), Meaning::Elsewhere(path));
                    }
                });
            } else if let Some(name) = defined(&item) {
                here.names.insert(name, Meaning::Here(file));
            }
            kept.push(item);
        }
        parsed.push((file, module.clone(), kept));
        self.modules.insert(module, here);
    }

    /// The file that defines what `path`, written in `module`, names; nothing for what another crate defines, and for a
    /// module, which is no definition.
    fn defining(&self, module: &[String], path: &[String], depth: usize) -> Option<usize> {
        if depth > 12 {
            return None;
        }
        let first = path.first()?;
        let (mut at, mut rest): (Vec<String>, &[String]) = match first.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), &path[1..]),
            _ => (module.to_vec(), path),
        };
        while rest.first().is_some_and(|part| part == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        loop {
            let (name, then) = rest.split_first()?;
            let here = self.modules.get(&at)?;
            match here.names.get(name) {
                Some(Meaning::Here(file)) => return Some(*file),
                Some(Meaning::Module(inner)) => {
                    at.clone_from(inner);
                    rest = then;
                }
                Some(Meaning::Elsewhere(whole)) => {
                    let mut whole = whole.clone();
                    whole.extend(then.iter().cloned());
                    return self.defining(&[], &whole, depth + 1);
                }
                None => {
                    return here.globs.iter().find_map(|glob| {
                        let mut whole = glob.clone();
                        whole.extend(rest.iter().cloned());
                        self.defining(&[], &whole, depth + 1)
                    });
                }
            }
        }
    }

    /// All circles between files, largest first.
    pub(crate) fn circles(&self) -> Vec<Circle> {
        let reach: Vec<BTreeSet<usize>> = (0..self.files.len())
            .map(|file| self.reached(file))
            .collect();
        let mut circles: Vec<Circle> = Vec::new();
        let mut placed: BTreeSet<usize> = BTreeSet::new();
        for file in 0..self.files.len() {
            if !reach[file].contains(&file) || placed.contains(&file) {
                continue;
            }
            let circle: BTreeSet<usize> = reach[file]
                .iter()
                .copied()
                .filter(|other| reach[*other].contains(&file))
                .collect();
            placed.extend(&circle);
            circles.push(
                circle
                    .iter()
                    .map(|file| self.files[*file].clone())
                    .collect(),
            );
        }
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }

    fn reached(&self, from: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for (_, to) in self
                .arrows
                .range((file, 0)..=(file, usize::MAX))
                .map(|(arrow, _)| arrow)
            {
                if reached.insert(*to) {
                    open.push(*to);
                }
            }
        }
        reached
    }

    /// The arrows among the files of a circle, with the names on each.
    pub(crate) fn within(&self, circle: &Circle) -> Vec<String> {
        let short = |file: usize| {
            let path = &self.files[file];
            let at = path
                .iter()
                .position(|part| part == "src")
                .map_or(0, |at| at + 1);
            path.iter()
                .skip(at)
                .collect::<PathBuf>()
                .display()
                .to_string()
        };
        self.arrows
            .iter()
            .filter(|((from, to), _)| {
                circle.contains(&self.files[*from]) && circle.contains(&self.files[*to])
            })
            .map(|((from, to), names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{} -> {}: {}", short(*from), short(*to), names.join(", "))
            })
            .collect()
    }
}

/// A path as the crate's root would write it, where the first part says so; another crate's stays as it is.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let mut at = match path.first().map(String::as_str) {
        Some("crate") => vec!["crate".to_owned()],
        Some("self") => [&["crate".to_owned()], module].concat(),
        Some("super") => [&["crate".to_owned()], &module[..module.len() - 1]].concat(),
        // A child of this module, or another crate: the first is looked for where it is resolved.
        _ => return [&["crate".to_owned()], module, path].concat(),
    };
    for part in &path[1..] {
        if part == "super" {
            at.pop();
        } else {
            at.push(part.clone());
        }
    }
    at
}

/// Calls `found` with each path of a `use`, the name that it gets here, and whether all of a module's names are meant.
fn leaves(
    tree: &syn::UseTree,
    path: &mut Vec<String>,
    found: &mut impl FnMut(&[String], &str, bool),
) {
    match tree {
        syn::UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            leaves(&inner.tree, path, found);
            path.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => {
            let name = path.last().cloned().unwrap_or_default();
            found(path, &name, false);
        }
        syn::UseTree::Name(name) => {
            path.push(name.ident.to_string());
            found(path, &name.ident.to_string(), false);
            path.pop();
        }
        syn::UseTree::Rename(name) => {
            path.push(name.ident.to_string());
            found(path, &name.rename.to_string(), false);
            path.pop();
        }
        syn::UseTree::Glob(_) => found(path, "", true),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, path, found);
            }
        }
    }
}

fn defined(item: &syn::Item) -> Option<String> {
    Some(match item {
        syn::Item::Fn(item) => item.sig.ident.to_string(),
        syn::Item::Struct(item) => item.ident.to_string(),
        syn::Item::Enum(item) => item.ident.to_string(),
        syn::Item::Trait(item) => item.ident.to_string(),
        syn::Item::Type(item) => item.ident.to_string(),
        syn::Item::Const(item) => item.ident.to_string(),
        syn::Item::Static(item) => item.ident.to_string(),
        syn::Item::Union(item) => item.ident.to_string(),
        syn::Item::Macro(item) => item.ident.as_ref()?.to_string(),
        _ => return None,
    })
}

/// Whether an item is compiled for tests alone.
pub(crate) fn is_test(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Ident>()
                    .is_ok_and(|word| word == "test")
    })
}

/// What code names.
#[derive(Default)]
struct Paths {
    /// Of more than one part.
    found: BTreeSet<Vec<String>>,
    /// All that is written, in macros too.
    words: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(item) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, _: &'ast syn::ItemUse) {}

    fn visit_ident(&mut self, word: &'ast syn::Ident) {
        self.words.insert(word.to_string());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 && path.leading_colon.is_none() {
            self.found.insert(
                path.segments
                    .iter()
                    .map(|part| part.ident.to_string())
                    .collect(),
            );
        }
        syn::visit::visit_path(self, path);
    }

    /// What a macro is given is tokens, not syntax.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
        syn::visit::visit_macro(self, call);
    }
}

impl Paths {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    self.words.insert(word.to_string());
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.end(&mut path);
                    colons = 0;
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.found.insert(path);
        }
    }
}
