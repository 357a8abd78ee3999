//! The parsers on mutated files: whatever comes in, they answer with problems and never with a panic.
//!
//! `FUZZ_SECONDS` says for how long (2 in `make test`, 600 in `make test-full`), `TWIN_SEED` where to start. A panic
//! prints the input and the seed that made it.

#![expect(clippy::print_stdout, reason = "a fuzzer says how far it came")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use twin::diagnostics::{Source, render};
use twin::topology::{LoadError, Lookup, load};
use twin::units::{Random, Seed};

/// Pieces that parsers stumble over.
const PIECES: &[&str] = &[
    "\n",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|\n",
    ">\n",
    "---\n",
    "...",
    "#",
    "~",
    "null",
    "true",
    "y",
    "no",
    "0x1F",
    "1e309",
    "-1",
    "99999999999999999999",
    "32GiB",
    "10.0.0.0/8",
    "255.255.255.255",
    "::1",
    "${host}",
    "${",
    "}",
    "é",
    "\u{0}",
    "\u{feff}",
    "\u{2028}",
    "extends: tiny\n",
    "name: a\n",
    "a: a: a",
    "? ",
    "%YAML 1.2\n",
];

struct One(String);

impl Lookup for One {
    fn find(&self, name: &str, _: Option<&str>) -> Option<Source> {
        let text = match name {
            "input" => self.0.clone(),
            "tiny" | "testcloud" => {
                std::fs::read_to_string(root().join(format!("topologies/{name}.yaml"))).ok()?
            }
            _ => return None,
        };
        Some(Source {
            name: format!("{name}.yaml"),
            text,
        })
    }

    fn names(&self) -> Vec<String> {
        vec!["tiny".into()]
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(folders: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(root().join(folder))
            .expect("a folder")
            .flatten()
        {
            if entry.path().extension().is_some_and(|kind| kind == "yaml") {
                texts.push(std::fs::read_to_string(entry.path()).expect("readable"));
            }
        }
    }
    // Long files cost time and reach nothing that short ones do not.
    texts.retain(|text| text.len() < 16 * 1024);
    texts.sort();
    texts
}

fn mutate(random: &mut Random, corpus: &[String]) -> String {
    let pick = |random: &mut Random, count: usize| {
        usize::try_from(random.below(count.max(1) as u64)).expect("small")
    };
    let mut text: Vec<char> = corpus[pick(random, corpus.len())].chars().collect();
    for _ in 0..=random.below(6) {
        let at = pick(random, text.len() + 1).min(text.len());
        let end = (at + pick(random, 40)).min(text.len());
        match random.below(5) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, PIECES[pick(random, PIECES.len())].chars())),
            2 => drop(text.splice(at..end, PIECES[pick(random, PIECES.len())].chars())),
            3 => {
                let copied: Vec<char> = text[at..end].to_vec();
                let to = pick(random, text.len() + 1).min(text.len());
                drop(text.splice(to..to, copied));
            }
            _ => {
                let other: Vec<char> = corpus[pick(random, corpus.len())].chars().collect();
                let from = pick(random, other.len());
                let until = (from + 200).min(other.len());
                drop(text.splice(at..end, other[from..until].iter().copied()));
            }
        }
    }
    text.into_iter().collect()
}

fn topology(text: &str) -> bool {
    match load("input", &One(text.to_owned())) {
        Ok(_) => true,
        Err(LoadError::Invalid { problems, sources }) => {
            assert!(!problems.is_empty(), "a refusal says why");
            assert!(!render(&problems, &sources, false).is_empty());
            false
        }
        Err(LoadError::NotFound { .. }) => false,
    }
}

fn scenario(text: &str) -> bool {
    let source = Source {
        name: "input.yaml".into(),
        text: text.to_owned(),
    };
    match twin::scenario::parse(&source) {
        Ok(_) => true,
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal says why");
            assert!(!render(&problems, &[source], false).is_empty());
            false
        }
    }
}

fn fuzz(name: &str, folders: &[&str], parse: fn(&str) -> bool) {
    let number = |variable: &str| {
        std::env::var(variable)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("TWIN_SEED").unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
    let (mut random, corpus) = (Random::new(Seed(seed)), corpus(folders));
    let (mut inputs, mut accepted) = (0u64, 0u64);
    while Instant::now() < until {
        let text = mutate(&mut random, &corpus);
        let outcome = catch_unwind(AssertUnwindSafe(|| parse(&text)));
        assert!(
            outcome.is_ok(),
            "{name}: seed {seed}, input {inputs} panics:\n{text}"
        );
        accepted += u64::from(outcome.unwrap_or(false));
        inputs += 1;
    }
    println!("{name}: {inputs} inputs from seed {seed}, {accepted} accepted, no panic");
    assert!(inputs > 0 && accepted < inputs);
}

#[test]
fn the_topology_parser_never_panics() {
    fuzz(
        "topology",
        &["topologies", "tests/suite/golden/topology"],
        topology,
    );
}

#[test]
fn the_scenario_parser_never_panics() {
    fuzz("scenario", &["scenarios"], scenario);
}

/// Small images with snapshots, as bytes.
fn images() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.qcow2");
    let path = file.to_str().expect("a path");
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        assert!(
            output.expect("qemu-img runs").status.success(),
            "{program} {arguments:?}"
        );
    };
    let mut images = Vec::new();
    for options in [
        "cluster_size=4k",
        "cluster_size=4k,refcount_bits=64",
        "extended_l2=on,cluster_size=16k",
    ] {
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-o", options, path, "1M"],
        );
        run("qemu-io", &["-c", "write -P 3 0 8k", path]);
        run("qemu-img", &["snapshot", "-c", "cut", path]);
        run("qemu-io", &["-c", "write -P 4 4k 16k", path]);
        run("qemu-img", &["snapshot", "-c", "later", path]);
        images.push(std::fs::read(&file).expect("readable"));
    }
    images
}

/// Reads all that the reader can read; true where nothing was wrong.
fn read_image(bytes: &[u8]) -> bool {
    let read = || -> Result<(), twin::image::qcow2::Qcow2Error> {
        let image = twin::image::qcow2::Qcow2::read(bytes)?;
        for snapshot in image.snapshots()? {
            image.checksums(&snapshot)?;
        }
        image.shared_vm_state()?;
        image.undercounted().map(drop)
    };
    read().is_ok()
}

#[test]
fn the_qcow2_reader_never_panics() {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok();
        text.and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number("TWIN_SEED").unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
    let (mut random, images) = (Random::new(Seed(seed)), images());
    let pick = |random: &mut Random, count: usize| {
        usize::try_from(random.below(count.max(1) as u64)).expect("small")
    };
    let (mut inputs, mut accepted, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < until {
        let mut bytes = images[pick(&mut random, images.len())].clone();
        for _ in 0..=random.below(4) {
            // The header and the tables, which come first, more often than the rest.
            let span = if random.below(2) == 0 {
                128
            } else {
                bytes.len()
            };
            let at = pick(&mut random, span.min(bytes.len()));
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill(0xff);
                }
            }
        }
        let from = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read_image(&bytes)));
        slowest = slowest.max(from.elapsed());
        assert!(outcome.is_ok(), "qcow2: seed {seed}, input {inputs} panics");
        accepted += u64::from(outcome.unwrap_or(false));
        inputs += 1;
    }
    println!(
        "qcow2: {inputs} inputs from seed {seed}, {accepted} accepted, no panic, the slowest took {slowest:?}"
    );
    assert!(inputs > 0 && accepted < inputs);
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}
