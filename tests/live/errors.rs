//! System calls that fail: each verb is run under `strace`, which has one call on one of twin's files end with an error. What
//! twin says is true then, and the same verb does its work afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use regex::Regex;

use crate::support::{TestLab, full, text, tool};

/// The calls that are made to fail, and with what, in turn.
const CALLS: [&str; 10] = [
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "ioctl",
    "copy_file_range",
    "pwrite64",
    "unlink",
    "unlinkat",
];
const ERRORS: [&str; 3] = ["EIO", "ENOSPC", "EINTR"];

/// How many calls of a kind are made to fail in a verb.
fn most() -> usize {
    if full() { 12 } else { 1 }
}

/// One call of a run that nothing disturbed: the `nth` of its kind by its thread on a file, and of all files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    name: &'static str,
    path: String,
    nth: usize,
    of_all: usize,
}

impl Call {
    /// What has `strace` let it fail. A file whose name is another one in each run is not looked for by that.
    fn inject(&self, error: &str, stable: bool) -> Vec<String> {
        let option = |kind: &str, rest: String| [kind.to_owned(), rest];
        let mut options = Vec::new();
        if stable {
            options.extend(option("-P", self.path.clone()));
        }
        let when = if stable { self.nth } else { self.of_all };
        options.extend(option("-e", format!("trace={}", self.name)));
        options.extend(option(
            "-e",
            format!("inject={}:error={error}:when={when}", self.name),
        ));
        options
    }
}

/// The path that `strace -P` knows a call by: of its descriptor, or the first that it names.
fn path_of(arguments: &str) -> Option<String> {
    let named = Regex::new(r#"(?:AT_FDCWD<[^>]*>, )?(?:\d+<(/[^>]*)>|"(/[^"]*)")"#).unwrap();
    let found = named.captures(arguments)?;
    let path = found.get(1).or_else(|| found.get(2))?;
    Some(path.as_str().to_owned())
}

/// The calls of a log on files below a directory.
fn calls(log: &str, below: &Path) -> Vec<Call> {
    let line = Regex::new(r"^(\d+) +([a-z0-9_]+)\((.*)$").unwrap();
    let mut seen: BTreeMap<(String, &str, String), usize> = BTreeMap::new();
    let mut all = BTreeSet::new();
    let mut count = |thread: &str, name, path: &str| {
        let seen = seen.entry((thread.to_owned(), name, path.to_owned()));
        let seen = seen.or_default();
        *seen += 1;
        *seen
    };
    for found in log.lines().filter_map(|text| line.captures(text)) {
        let Some(name) = CALLS.into_iter().find(|name| *name == &found[2]) else {
            continue;
        };
        let of_all = count(&found[1], name, "");
        if let Some(path) = path_of(&found[3]).filter(|path| Path::new(path).starts_with(below)) {
            let nth = count(&found[1], name, &path);
            all.insert(Call {
                name,
                path,
                nth,
                of_all,
            });
        }
    }
    all.into_iter().collect()
}

/// At most so many of each kind, spread evenly.
fn chosen(all: &[Call]) -> Vec<Call> {
    let of = |name: &str| {
        let own: Vec<&Call> = all.iter().filter(|call| call.name == name).collect();
        let number = own.len().min(most());
        let spread = (0..number).map(move |index| own[index * own.len() / number].clone());
        spread.collect::<Vec<_>>()
    };
    CALLS.into_iter().flat_map(of).collect()
}

/// Runs a verb under strace; returns what strace wrote, too.
fn traced(lab: &TestLab, words: &[&str], options: &[String]) -> (Output, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let twin = lab.command(words);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-y", "-s", "0", "--signal=none", "-o"])
        .arg(log.path())
        .args(options)
        .arg("--")
        .arg(twin.get_program())
        .args(twin.get_args())
        .current_dir(twin.get_current_dir().unwrap())
        .env("TWIN_YES", "1")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    (output, std::fs::read_to_string(log.path()).unwrap())
}

/// A verb, with how it is told whether it did its work and what it leaves.
struct Verb<'v> {
    words: Vec<&'v str>,
    /// Whether its effect is there.
    effect: &'v dyn Fn(&TestLab) -> bool,
    /// Brings back what there was before it.
    back: &'v dyn Fn(&TestLab),
}

/// Names of all files in a lab's directory and its reports, without numbers and ids.
fn files(lab: &TestLab) -> BTreeSet<String> {
    let ids = Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8,}|[0-9]+").unwrap();
    let places: Vec<PathBuf> = ["pool/labs", "captured", "reports"]
        .iter()
        .map(|place| lab.state.join(place))
        .collect();
    let mut found = BTreeSet::new();
    for place in places.iter().filter(|place| place.exists()) {
        let listed = tool("find", &[&place.display().to_string(), "-type", "f"]);
        found.extend(
            listed
                .lines()
                .map(|line| ids.replace_all(line, "N").into_owned()),
        );
    }
    found
}

/// Has each chosen call of a verb fail once. Returns how many calls failed, of how many.
fn go_through(lab: &TestLab, verb: &Verb<'_>) -> (usize, usize) {
    // What is made once, and asked only then, is there from here on.
    lab.done(&verb.words);
    (verb.back)(lab);
    let undisturbed = || {
        let trace = ["-e".to_owned(), format!("trace={}", CALLS.join(","))];
        let (output, log) = traced(lab, &verb.words, &trace);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{:?}: {said}", verb.words);
        assert!((verb.effect)(lab));
        let leaves = files(lab);
        (verb.back)(lab);
        (calls(&log, &lab.state), leaves)
    };
    let ((once, leaves), (again, leaves_again)) = (undisturbed(), undisturbed());
    assert_eq!(leaves, leaves_again);
    let paths: BTreeSet<&String> = again.iter().map(|call| &call.path).collect();
    let calls = chosen(&once);
    let kept = Regex::new("baseline (run-[0-9a-f]+) is kept").unwrap();
    let mut failed = 0;
    for (index, call) in calls.iter().enumerate() {
        let error = ERRORS[index % ERRORS.len()];
        let what = format!("{:?}: {call:?} ends with {error}", verb.words);
        let inject = call.inject(error, paths.contains(&call.path));
        let (output, log) = traced(lab, &verb.words, &inject);
        failed += usize::from(log.contains("(INJECTED)"));
        let said = text(&output.stdout) + &text(&output.stderr);
        println!("{what}: {:?}", output.status.code());
        match output.status.code() {
            Some(0) => assert!((verb.effect)(lab), "{what}: {said}"),
            Some(1 | 4) => {
                assert!(said.contains("cure"), "{what}: {said}");
                // A baseline that could not be taken is none.
                assert!(verb.words[0] != "snapshot" || !(verb.effect)(lab), "{what}");
            }
            // A run that cannot be written down has no verdict.
            Some(3) if verb.words[0] == "scenario" => {
                assert!(said.contains("verdict: inconclusive"), "{what}: {said}");
                assert!((verb.effect)(lab), "{what}: {said}");
            }
            Some(5) => {
                assert!(said.contains("twin recover"), "{what}: {said}");
                lab.done(&["recover"]);
            }
            other => panic!("{what}: {other:?}: {said}"),
        }
        // Where a run ended dirty, or could not remove its baseline, that is kept for the user, who is told its name.
        if let Some(kept) = kept.captures(&said) {
            lab.done(&["snapshot", &kept[1], "--remove"]);
        }
        if output.status.code() == Some(0) {
            (verb.back)(lab);
        }
        lab.done(&verb.words);
        assert!((verb.effect)(lab), "{what}");
        assert_eq!(files(lab), leaves, "{what}: {said}");
        (verb.back)(lab);
    }
    (failed, calls.len())
}

/// One host, which boots soon.
const SMALL: &str = "schema: twin/topology/v1\nname: small\n\
    networks: {metal: {cidr: 10.77.16.0/24, gateway: 10.77.16.1, mode: nat, dhcp: static}}\n\
    defaults: {image: micro, vcpus: 1, memory: 1GiB, disk: 1GiB}\n\
    hosts: {a: {nics: [{network: metal, address: 10.77.16.10}], services: [{name: apache2, memory: 32MiB, ports: [80]}]}}\n";

const CHANGE: &str = "schema: twin/scenario/v1\nname: change\ntitle: A file is changed and a service stopped\nabout: a\n\
    variants: {all: {expect: {gone: never}}}\n\
    probes: [{id: gone, domain-state: {host: a, is: crashed}}]\n\
    steps:\n  - {id: file, do: {file-change: {host: a, path: /root/f, content: other}}}\n  \
    - {id: stop, do: {service-stop: {host: a, service: apache2}}}\n\
    observe: 1s\nrecover: {services: healthy, within: 1m}\n";

/// A lab in a state directory of its own: others' calls would be counted, too.
struct Bench {
    // Destroyed before the directory goes.
    lab: TestLab,
    small: String,
    change: String,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (directory, lab) = crate::privacy::with_own_pool("errors");
        let write = |name: &str, content: &str| {
            let file = directory.path().join(name);
            std::fs::write(&file, content).unwrap();
            file.display().to_string()
        };
        let (small, change) = (write("small.yaml", SMALL), write("change.yaml", CHANGE));
        Self {
            lab,
            small,
            change,
            _directory: directory,
        }
    }

    fn up(&self) -> Vec<&str> {
        vec!["up", &self.small, "--scale", "8"]
    }

    /// Has calls of a verb fail; most of those that were chosen have to.
    fn holds(&self, verb: &Verb<'_>) {
        let (failed, chosen) = go_through(&self.lab, verb);
        let name = verb.words[0];
        println!("errors: {name}: {failed} of {chosen} chosen calls failed");
        assert!(chosen > 0 && failed * 10 >= chosen * 8, "{name}");
    }
}

fn answers(lab: &TestLab) -> bool {
    let status = lab.json(&["status"]);
    status["hosts"][0]["agent"] == "answers" && status["dirty"] == false
}

#[test]
fn d2_up_says_no_more_than_it_did_and_works_afterwards() {
    let bench = Bench::new();
    bench.holds(&Verb {
        words: bench.up(),
        effect: &answers,
        back: &|lab| drop(lab.done(&["destroy"])),
    });
}

#[test]
fn d2_snapshot_says_no_more_than_it_did_and_works_afterwards() {
    let bench = Bench::new();
    bench.lab.done(&bench.up());
    bench.holds(&Verb {
        words: vec!["snapshot", "x"],
        effect: &|lab| lab.run(&["snapshot", "x", "--verify"]).status.success(),
        back: &|lab| drop(lab.done(&["snapshot", "x", "--remove"])),
    });
}

#[test]
fn d2_restore_says_no_more_than_it_did_and_works_afterwards() {
    let bench = Bench::new();
    bench.lab.done(&bench.up());
    let words = |lab: &TestLab, word: &str| {
        let write = format!("echo {word} > /run/word; echo {word} > /var/word; sync");
        lab.sh("a", &write);
    };
    words(&bench.lab, "cut");
    bench.lab.done(&["snapshot", "x"]);
    words(&bench.lab, "later");
    bench.holds(&Verb {
        words: vec!["restore", "x"],
        effect: &|lab| {
            let words = lab.done(&["exec", "a", "--", "cat", "/run/word", "/var/word"]);
            words.matches("cut").count() == 2
        },
        back: &|lab| words(lab, "later"),
    });
}

#[test]
fn d2_scenario_says_no_more_than_it_did_and_works_afterwards() {
    let bench = Bench::new();
    bench.lab.done(&bench.up());
    bench.holds(&Verb {
        words: vec!["scenario", &bench.change],
        effect: &|lab| answers(lab) && lab.done(&["recover"]).contains("nothing is open"),
        back: &|_| {},
    });
}
