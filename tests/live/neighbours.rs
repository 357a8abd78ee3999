//! Beside others: strangers' things, a second lab, a second twin.

use std::path::Path;

use crate::support::{Strangers, TestLab, full, qemu_directory, root, text, tool};
use crate::turns;

#[test]
fn strangers_things_are_byte_identical_after_a_labs_whole_life() {
    let lab = TestLab::new();
    let strangers = Strangers::make(&lab.name);
    let before = strangers.picture();
    lab.done(&["up", "tiny"]);
    lab.done(&["down", "--force"]);
    lab.done(&["destroy"]);
    assert_eq!(before, strangers.picture());
    let left: Vec<String> = lab
        .traces()
        .into_iter()
        .filter(|trace| !trace.ends_with("-zz"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn two_twins_at_one_lab_make_one_lab_and_one_clear_message() {
    let lab = TestLab::new();
    let other_state = qemu_directory("state");
    let mut other = TestLab::new();
    other.name.clone_from(&lab.name);
    other.state = other_state.path().to_owned();
    let (first, second) = (lab.spawn(&["up", "tiny"]), other.spawn(&["up", "tiny"]));
    let outputs = [
        first.wait_with_output().unwrap(),
        second.wait_with_output().unwrap(),
    ];
    let codes: Vec<Option<i32>> = outputs.iter().map(|output| output.status.code()).collect();
    assert!(
        codes.contains(&Some(0)) && codes.contains(&Some(4)),
        "{codes:?}"
    );
    let refused = outputs
        .iter()
        .find(|output| output.status.code() == Some(4))
        .unwrap();
    assert!(
        text(&refused.stderr).contains("is being changed by `twin up`"),
        "{}",
        text(&refused.stderr)
    );
    let domains = tool("virsh", &["list", "--all", "--name"]);
    assert_eq!(
        domains
            .lines()
            .filter(|name| name.starts_with(&format!("{}-", lab.name)))
            .count(),
        2
    );
    // Whichever state directory won, the lab is found by its marks and goes.
    let winner = if codes[0] == Some(0) { &lab } else { &other };
    winner.done(&["destroy"]);
}

#[test]
fn a_second_lab_gets_bridges_and_subnets_of_its_own() {
    side_by_side("tiny", &[]);
    if full() {
        side_by_side("testcloud", &["--scale", "32"]);
    }
}

fn side_by_side(topology: &str, flags: &[&str]) {
    let up = [&["up", topology][..], flags].concat();
    let (first, second) = (TestLab::new(), TestLab::new());
    first.done(&up);
    second.done(&up);
    let subnets = |lab: &TestLab| {
        let status = lab.json(&["status"]);
        let networks = status["networks"].as_array().unwrap().clone();
        networks
            .iter()
            .flat_map(|network| [network["bridge"].to_string(), network["cidr"].to_string()])
            .collect::<Vec<_>>()
    };
    let (one, two) = (subnets(&first), subnets(&second));
    assert!(
        one.iter().all(|thing| !two.contains(thing)),
        "{one:?} {two:?}"
    );
    first.done(&["exec", "--all", "--", "true"]);
    second.done(&["exec", "--all", "--", "true"]);
    second.done(&["destroy"]);
    // The other lab goes on.
    first.done(&["exec", "--all", "--", "true"]);
}

/// Removes the stranger's bridge.
struct Taken(&'static str);
impl Drop for Taken {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["link", "del", self.0])
            .output();
    }
}

/// A stranger holds tiny's subnet, then its bridge: the default lab is refused, and the command that is printed works, to the
/// letter, also for a topology in a file of another name.
#[test]
fn a_taken_subnet_or_bridge_is_refused_with_the_command_that_works() {
    let _turn = turns::alone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a copy.yaml");
    std::fs::copy(root().join("topologies/tiny.yaml"), &file).unwrap();
    let topology = file.display().to_string();
    {
        let _taken = bridge("twtaken0");
        tool("ip", &["address", "add", "10.77.4.1/24", "dev", "twtaken0"]);
        tool("ip", &["link", "set", "twtaken0", "up"]);
        let said = refused(&topology);
        assert!(
            said.contains("10.77.4.0/24 is taken by link twtaken0"),
            "{said}"
        );
        works(&said, &topology);
    }
    let _taken = bridge("twtiny1");
    let said = refused(&topology);
    assert!(said.contains("bridge twtiny1 is taken"), "{said}");
    works(&said, &topology);
}

fn bridge(name: &'static str) -> Taken {
    tool("ip", &["link", "add", name, "type", "bridge"]);
    Taken(name)
}

fn refused(topology: &str) -> String {
    let mut lab = TestLab::new();
    lab.name = "tiny".into();
    let refused = lab.run(&["up", topology]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert_eq!(lab.traces(), Vec::<String>::new());
    said
}

/// Runs what was printed, as a shell does.
fn works(said: &str, topology: &str) {
    let command = said.split('`').find(|part| part.starts_with("twin --lab "));
    let command = command.unwrap_or_else(|| panic!("no command in {said}"));
    assert!(command.contains(&format!("'{topology}'")), "{command}");
    let mut lab = TestLab::new();
    let name = command.split(' ').nth(2).unwrap();
    name.clone_into(&mut lab.name);
    let binaries = Path::new(env!("CARGO_BIN_EXE_twin")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{command}: {}",
        text(&output.stderr)
    );
    lab.done(&["exec", "--all", "--", "true"]);
}
