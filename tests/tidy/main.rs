//! The shape of the code, as a test: who may import whom, how long files are, and what must not be written.

mod imports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A file's length without its tests, and a function's.
const LINES: usize = 600;
const FUNCTION_LINES: usize = 70;

/// Module, and what it may import beside its own children and `units`. The table of shared/design.md, section 2, mended
/// where the code found it wrong: `clock` is a seam of its own; `doctor` takes the probe's trait and paths from `lab`.
const EDGES: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("diagnostics", &[]),
    ("wire", &[]),
    ("clock", &[]),
    ("http", &[]),
    // Programs run within limits.
    ("tools", &[]),
    // Files: written durably, opened beneath a directory, removed by known names.
    ("storage", &[]),
    ("model", &["wire"]),
    ("topology", &["model", "diagnostics"]),
    ("plan", &["model", "wire"]),
    ("journal", &["clock", "model", "storage"]),
    ("image", &["model", "storage", "http", "tools"]),
    // The libvirt driver reads captured states from qcow2 files.
    (
        "hypervisor",
        &["model", "wire", "image", "storage", "tools"],
    ),
    ("guest", &["model", "wire", "clock", "storage"]),
    ("hostnet", &["model", "http", "tools"]),
    (
        "sim",
        &[
            "hypervisor",
            "guest",
            "hostnet",
            "clock",
            "model",
            "wire",
            "lab",
        ],
    ),
    (
        "lab",
        &[
            "plan",
            "hypervisor",
            "guest",
            "hostnet",
            "clock",
            "image",
            "journal",
            "model",
            "storage",
            "wire",
        ],
    ),
    (
        "snapshot",
        &[
            "lab",
            "plan",
            "hypervisor",
            "guest",
            "hostnet",
            "clock",
            "image",
            "journal",
            "model",
            "storage",
            "tools",
            "wire",
        ],
    ),
    (
        "scenario",
        &[
            "snapshot",
            "lab",
            "plan",
            "hypervisor",
            "guest",
            "hostnet",
            "clock",
            "image",
            "journal",
            "model",
            "storage",
            "wire",
            "diagnostics",
        ],
    ),
    (
        "doctor",
        &[
            "hypervisor",
            "hostnet",
            "image",
            "journal",
            "lab",
            "model",
            "storage",
        ],
    ),
    // What verbs do, without a terminal.
    (
        "service",
        &[
            "clock",
            "doctor",
            "guest",
            "hostnet",
            "hypervisor",
            "journal",
            "lab",
            "scenario",
            "snapshot",
            "storage",
            "wire",
        ],
    ),
    (
        "report",
        &["doctor", "hypervisor", "journal", "model", "scenario"],
    ),
    (
        "cli",
        &[
            "clock",
            "diagnostics",
            "doctor",
            "guest",
            "hostnet",
            "hypervisor",
            "image",
            "journal",
            "lab",
            "model",
            "plan",
            "report",
            "scenario",
            "service",
            "sim",
            "snapshot",
            "storage",
            "topology",
            "wire",
        ],
    ),
];

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    files
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The top-level module of a file below `src/`, or nothing for the crate's root and binaries.
fn module(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(source()).expect("below src");
    let first = relative
        .components()
        .next()?
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    (relative.components().count() > 1 && first != "bin").then_some(first)
}

/// Names of crate modules that a line of code mentions after `crate::`.
fn mentioned(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let word = |rest: &str| -> String {
        rest.chars()
            .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
            .collect()
    };
    code.split("crate::")
        .skip(1)
        .map(word)
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in rust_files(&source()) {
        let Some(module) = module(&path) else {
            continue;
        };
        let Some(edges) = allowed.get(module.as_str()) else {
            wrong.push(format!(
                "{}: module {module} is not in the table",
                path.display()
            ));
            continue;
        };
        for (number, line) in fs::read_to_string(&path)
            .expect("readable")
            .lines()
            .enumerate()
        {
            for name in mentioned(line) {
                let known = name == module || name == "units" || edges.contains(&name.as_str());
                if !known {
                    wrong.push(format!(
                        "{}:{}: {module} imports {name}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_crate_is_in_the_table_and_the_other_way_round() {
    let mut found: Vec<String> = fs::read_dir(source())
        .expect("src")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "bin")
        .collect();
    let mut listed: Vec<String> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    found.sort();
    listed.sort();
    assert_eq!(found, listed);
}

/// A verb reads flags, asks, prints and gives an exit code; what it does is `service`'s.
#[test]
fn verbs_are_under_80_lines() {
    let verbs = rust_files(&source().join("cli/verbs"));
    let long: Vec<String> = verbs
        .iter()
        .map(|path| {
            (
                path,
                fs::read_to_string(path).expect("readable").lines().count(),
            )
        })
        .filter(|(_, lines)| *lines >= 80)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(verbs.len() > 15 && long.is_empty(), "{}", long.join("\n"));
}

/// Files that import each other cannot be read, moved or tested one at a time.
#[test]
fn files_import_each_other_in_at_most_one_circle_of_five() {
    let imports = imports::Imports::read(&source());
    let circles = imports.circles();
    let told: Vec<String> = circles
        .iter()
        .map(|circle| {
            format!(
                "{} files:\n  {}",
                circle.len(),
                imports.within(circle).join("\n  ")
            )
        })
        .collect();
    assert!(
        circles.len() <= 1 && circles.iter().all(|circle| circle.len() <= 5),
        "{}",
        told.join("\n")
    );
}

#[test]
fn files_are_at_most_600_lines_without_their_tests() {
    let mut long = Vec::new();
    for path in rust_files(&source()) {
        let text = fs::read_to_string(&path).expect("readable");
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        if lines > LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// A function of more lines than a screen has does more than one thing.
#[test]
fn functions_are_at_most_70_lines() {
    let mut long = Vec::new();
    for path in rust_files(&source()) {
        let text = fs::read_to_string(&path).expect("readable");
        let file = syn::parse_file(&text).expect("Rust");
        let mut lengths = Lengths::default();
        lengths.visit_file(&file);
        let found = lengths.0.into_iter();
        let found = found.filter(|(_, lines)| *lines > FUNCTION_LINES);
        long.extend(
            found.map(|(name, lines)| format!("{}: {name}: {lines} lines", path.display())),
        );
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// How long functions are, from the line of their name to their last brace; tests are let off.
#[derive(Default)]
struct Lengths(Vec<(String, usize)>);

impl Lengths {
    fn take(&mut self, name: &syn::Ident, end: proc_macro2::Span) {
        let lines = end.end().line - name.span().start().line + 1;
        self.0.push((name.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Lengths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !imports::is_test(item) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.take(&function.sig.ident, function.block.brace_token.span.close());
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.take(&function.sig.ident, function.block.brace_token.span.close());
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn printing_stays_in_the_ui_and_unsafe_in_the_bindings() {
    let mut wrong = Vec::new();
    for path in rust_files(&source()) {
        let in_ffi = path.ends_with("hypervisor/libvirt/ffi.rs");
        for (number, line) in fs::read_to_string(&path)
            .expect("readable")
            .lines()
            .enumerate()
        {
            let code = line.split("//").next().unwrap_or_default();
            let prints = ["println!(", "eprintln!(", "print!(", "dbg!("]
                .iter()
                .any(|word| code.contains(word));
            let is_unsafe = code.contains("unsafe {")
                || code.contains("unsafe fn")
                || code.contains("unsafe impl");
            if prints || (is_unsafe && !in_ffi) {
                wrong.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let vague = ["util", "utils", "helpers", "common", "misc", "imp"];
    let named: Vec<PathBuf> = rust_files(&source())
        .into_iter()
        .filter(|path| {
            path.components().any(|part| {
                let part = part.as_os_str().to_string_lossy();
                vague.contains(&part.trim_end_matches(".rs"))
            })
        })
        .collect();
    assert!(named.is_empty(), "{named:?}");
}

/// Every test that README and docs/testing.md name by its beginning is there.
#[test]
fn documents_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for file in rust_files(&root.join(folder)) {
            code.push_str(&fs::read_to_string(file).expect("text"));
        }
    }
    let mut named = 0;
    for document in ["README.md", "docs/testing.md"] {
        let text = fs::read_to_string(root.join(document)).expect("text");
        for word in text.split('`') {
            let Some(beginning) = word.strip_suffix("_..") else {
                continue;
            };
            let beginning = beginning.rsplit("::").next().unwrap_or(beginning);
            let there = code.contains(&format!("fn {beginning}_"));
            assert!(there, "{document} names {word}, and there is no such test");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}
