//! Every mistake that a topology can hold has a golden picture: file, line, column, cure.
//!
//! A case is a file `tests/suite/golden/topology/CODE[.note].yaml`; what twin says of it stands beside it. `UPDATE_GOLDEN=1`
//! writes the pictures anew.

use std::collections::BTreeSet;
use std::path::PathBuf;

use twin::diagnostics::{FormatError, render};
use twin::topology::{LoadError, TopologyError, load};

use crate::support::{Folder, root, text, twin};

fn folder() -> PathBuf {
    root().join("tests/suite/golden/topology")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "yaml"))
        .collect();
    cases.sort();
    cases
}

fn problems(path: &std::path::Path) -> (Vec<&'static str>, String) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    match load(&name, &Folder(folder())) {
        Err(LoadError::Invalid { problems, sources }) => (
            problems.iter().map(|problem| problem.code).collect(),
            render(&problems, &sources, false),
        ),
        Err(LoadError::NotFound { .. }) => panic!("{name} is there"),
        Ok(_) => (Vec::new(), String::new()),
    }
}

#[test]
fn every_mistake_shows_file_line_column_and_cure() {
    let mut wrong = Vec::new();
    for case in cases() {
        let stem = case.file_stem().unwrap().to_string_lossy().into_owned();
        if stem.starts_with("base-") {
            continue;
        }
        let (codes, picture) = problems(&case);
        let wanted = stem.split('.').next().unwrap();
        if wanted != "several" && !codes.contains(&wanted) {
            wrong.push(format!("{stem}: raised {codes:?}"));
        }
        let golden = case.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &picture).unwrap();
        }
        let known = std::fs::read_to_string(&golden).unwrap_or_default();
        if known != picture {
            wrong.push(format!("{stem}: says now\n{picture}"));
        }
        for sign in ["help: ", &format!("[{stem}"), "╰"] {
            let sign = if sign.starts_with('[') {
                format!("[{stem}.yaml:")
            } else {
                sign.to_owned()
            };
            if !picture.contains(&sign) {
                wrong.push(format!("{stem}: does not show {sign}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_kind_of_mistake_lacks_a_case() {
    let cased: BTreeSet<String> = cases()
        .iter()
        .map(|case| {
            case.file_stem()
                .unwrap()
                .to_string_lossy()
                .split('.')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    let lacking: Vec<&&str> = TopologyError::CODES
        .iter()
        .chain(FormatError::CODES)
        .filter(|code| !cased.contains(**code))
        .collect();
    assert!(lacking.is_empty(), "no case for {lacking:?}");
}

#[test]
fn several_mistakes_are_told_at_once() {
    let (codes, _) = problems(&folder().join("several.yaml"));
    let kinds: BTreeSet<_> = codes.iter().collect();
    assert!(kinds.len() >= 5, "{codes:?}");
}

#[test]
fn a_wrong_topology_ends_with_exit_2_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(
        folder().join("several.yaml"),
        directory.path().join("several.yaml"),
    )
    .unwrap();
    let output = twin(directory.path(), &["up", "several.yaml"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("several.yaml:"));
    let made: Vec<_> = std::fs::read_dir(directory.path().join("state"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(made.iter().all(|name| name == "log"), "{made:?}");
}

#[test]
fn the_topologies_that_come_with_twin_are_right() {
    for name in ["testcloud", "testcloud-as-built", "tiny"] {
        let loaded = load(name, &Folder(root().join("topologies")));
        assert!(loaded.is_ok(), "{name}: {:?}", loaded.err());
    }
}

#[test]
fn testcloud_is_the_cloud_of_the_decisions() {
    let topology = load("testcloud", &Folder(root().join("topologies")))
        .unwrap()
        .topology;
    let hosts: Vec<&str> = topology
        .hosts
        .iter()
        .map(|host| host.name.as_str())
        .collect();
    assert_eq!(
        hosts,
        [
            "openstack0",
            "openstack1",
            "openstack2",
            "openstack3",
            "capi-mgmt"
        ]
    );
    let openstack1 = topology.host("openstack1").unwrap();
    let services: twin::units::Mib = openstack1
        .services
        .iter()
        .map(|service| service.memory)
        .sum();
    assert!(
        (6340..=6360).contains(&services.0),
        "6.2 GiB that Nova does not count (D-040), not {services}"
    );
    assert!(
        openstack1
            .instances
            .iter()
            .any(|instance| instance.name.as_str() == "capi-mgmt-v2"),
        "D-035"
    );
    assert!(!topology.policy.autostart, "D-041");
    let bridges: Vec<_> = topology
        .networks
        .iter()
        .filter_map(|network| network.bridge.as_deref())
        .collect();
    assert_eq!(bridges, ["virbr1", "virbr2"]);
}
