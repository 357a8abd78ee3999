//! Beside others: strangers' things, a second lab, a second twin.

use std::time::Duration;

use crate::support::{Strangers, TestLab, qemu_directory, text, tool};

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
fn a_second_lab_gets_bridges_and_subnets_of_its_own_and_a_taken_one_is_refused_with_what_works() {
    let first = TestLab::new();
    let second = TestLab::new();
    first.done(&["up", "tiny"]);
    second.done(&["up", "tiny"]);
    let subnets = |lab: &TestLab| {
        let status = lab.json(&["status"]);
        let networks = status["networks"].as_array().unwrap().clone();
        networks
            .iter()
            .map(|network| format!("{} {}", network["bridge"], network["cidr"]))
            .collect::<Vec<_>>()
    };
    let (one, two) = (subnets(&first), subnets(&second));
    assert!(
        one.iter().all(|network| !two.contains(network)),
        "{one:?} {two:?}"
    );
    for lab in [&first, &second] {
        assert_eq!(
            lab.run(&["exec", "--all", "--", "true"]).status.code(),
            Some(0)
        );
    }
    second.done(&["destroy"]);
    assert_eq!(
        first.run(&["exec", "--all", "--", "true"]).status.code(),
        Some(0),
        "the other lab goes on"
    );
    first.done(&["destroy"]);
    a_taken_subnet();
}

/// Removes the stranger's bridge.
struct Taken;
impl Drop for Taken {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["link", "del", "twtaken0"])
            .output();
    }
}

/// A stranger holds the subnet of tiny's provider network: the default lab is refused, and the command it prints works.
fn a_taken_subnet() {
    tool("ip", &["link", "add", "twtaken0", "type", "bridge"]);
    let _taken = Taken;
    tool("ip", &["address", "add", "10.77.4.1/24", "dev", "twtaken0"]);
    tool("ip", &["link", "set", "twtaken0", "up"]);
    let mut lab = TestLab::new();
    lab.name = "tiny".into();
    let refused = lab.run(&["up", "tiny"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(
        said.contains("10.77.4.0/24 is taken by link twtaken0"),
        "{said}"
    );
    let command = said
        .split('`')
        .find(|part| part.starts_with("twin --lab "))
        .unwrap_or_else(|| panic!("no command in {said}"));
    let words: Vec<&str> = command.split(' ').collect();
    let mut instead = TestLab::new();
    words[2].clone_into(&mut instead.name);
    let dry = instead.run(&["up", words[4], "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", text(&dry.stderr));
    instead.done(&[
        "up",
        words[4],
        "--timeout",
        &format!("{}s", Duration::from_secs(120).as_secs()),
    ]);
    instead.done(&["destroy"]);
}
