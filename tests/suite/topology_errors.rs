//! Every mistake that a topology can hold has a golden picture.

use std::collections::BTreeSet;

use twin::diagnostics::{FormatError, render};
use twin::topology::{LoadError, TopologyError, load};

use crate::binary::twin;
use crate::golden::{cover, folder, pictures};
use crate::support::{Folder, root, text};

const KIND: &str = "topology";

fn problems(path: &std::path::Path) -> (Vec<&'static str>, String) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    match load(&name, &Folder(folder(KIND))) {
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
    pictures(KIND, problems);
}

#[test]
fn no_kind_of_mistake_lacks_a_case() {
    cover(KIND, &[TopologyError::CODES, FormatError::CODES]);
}

#[test]
fn several_mistakes_are_told_at_once() {
    let (codes, _) = problems(&folder(KIND).join("several.yaml"));
    let kinds: BTreeSet<_> = codes.iter().collect();
    assert!(kinds.len() >= 5, "{codes:?}");
}

/// A misspelt key is reported once: no check that misses the key it stands for reports it again.
#[test]
fn a_misspelt_key_is_reported_once() {
    let (codes, picture) = problems(&folder(KIND).join("unknown-key.misspelt.yaml"));
    assert_eq!(codes, ["unknown-key"; 3], "{picture}");
}

#[test]
fn a_wrong_topology_ends_with_exit_2_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(
        folder(KIND).join("several.yaml"),
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

#[test]
fn b6_extends_shows_no_line_of_a_file_that_is_no_topology_and_leads_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("tree")).unwrap();
    std::fs::write(at("secret.yaml"), "password: s3cret\nschema: nothing\n").unwrap();
    std::fs::write(
        at("tree/secret.yaml"),
        "password: s3cret\nschema: nothing\n",
    )
    .unwrap();
    std::fs::write(at("tree/plain"), "root:s3cret:19000\n: [").unwrap();
    std::os::unix::fs::symlink(at("secret.yaml"), at("tree/link.yaml")).unwrap();
    std::os::unix::fs::symlink(directory.path(), at("tree/up")).unwrap();
    let secret = at("secret.yaml").display().to_string();
    let cases = [
        "secret.yaml",
        "./plain",
        "link.yaml",
        "up/secret.yaml",
        "../secret.yaml",
        secret.as_str(),
    ];
    for base in cases {
        std::fs::write(
            at("tree/top.yaml"),
            format!("schema: twin/topology/v1\nname: top\nextends: {base}\n"),
        )
        .unwrap();
        let output = twin(&at("tree"), &["up", "top.yaml"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{base}: {said}");
        assert!(
            said.contains("extends: ") && !said.contains("s3cret"),
            "{base}: {said}"
        );
    }
}
