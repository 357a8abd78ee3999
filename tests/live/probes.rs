//! Probes in a real lab: each fires for what is there, and stays quiet for what is not.

use std::os::unix::fs::PermissionsExt;

use crate::support::{TestLab, qemu_directory, text, tool, valid};

const SCENARIO: &str = r#"
schema: twin/scenario/v1
name: look
title: Looking
variants:
  only:
    expect:
      answers: fires
      answers-inside: fires
      wrong-status: fires
      wrong-body: fires
      no-such-path: never
      not-that-body: never
      nobody-there: fires
      nobody-there-inside: fires
      nobody-answers: fires
      there: fires
      gone: fires
      not-gone: never
      long-name: fires
      holds: fires
      holds-not: never
      said: fires
      never-said: never
      fits: fires
      refused: never
      to-b: fires
      from-a: fires
      over-the-bridge: fires
      not-so-many: never
      all-the-time: always
      at-the-edges: fires
safety: {baseline: none, protect: [b]}
probes:
  - {id: answers, http: {address: "${address.b.metal}", port: 80, path: /health, matches: "\"service\":\"apache2\""}}
  - {id: answers-inside, http: {from: a, address: "${address.b.metal}", port: 80, matches: apache2}}
  - {id: wrong-status, http: {address: "${address.b.metal}", port: 80, status: 404, is: wrong}}
  - {id: wrong-body, http: {from: a, address: "${address.b.metal}", port: 80, matches: nginx, is: wrong}}
  - {id: no-such-path, http: {address: "${address.b.metal}", port: 80, status: 404}}
  - {id: not-that-body, http: {address: "${address.b.metal}", port: 80, matches: nginx}}
  - {id: nobody-there, http: {address: "${address.b.metal}", port: 81, is: refused}}
  - {id: nobody-there-inside, http: {from: a, address: "${address.b.metal}", port: 81, is: refused}}
  - {id: nobody-answers, http: {from: a, address: 192.0.2.1, port: 80, is: down}}
  - {id: there, file: {host: a, path: /etc/hosts}}
  - {id: gone, file: {host: a, path: /etc/nothing, is: gone}}
  - {id: not-gone, file: {host: a, path: /etc/hosts, is: gone}}
  - {id: long-name, process: {host: b, name: neutron-dhcp-agent, is: runs}}
  - {id: holds, file: {host: a, path: /proc/version, matches: "^Linux version"}}
  - {id: holds-not, file: {host: a, path: /proc/version, matches: "^Windows"}}
  - {id: say, exec: {host: a, command: "echo twin was here >/dev/console"}}
  - {id: said, console: {host: a, matches: "^twin was here$"}}
  - {id: never-said, console: {host: b, matches: "^twin was here$"}}
  - {id: fits, placement: {host: a, flavor: nano, one-more: fits}}
  - {id: refused, placement: {host: a, flavor: nano, one-more: refused}}
  - {id: to-b, link-counters: {host: b, network: metal, packets: received, rise-by: 10}}
  - {id: from-a, link-counters: {host: a, network: metal, packets: sent, rise-by: 10}}
  - {id: over-the-bridge, link-counters: {network: metal, packets: sent, rise-by: 5}}
  - {id: not-so-many, link-counters: {host: b, network: metal, packets: received, rise-by: 1000000}}
  - {id: all-the-time, http: {address: "${address.b.metal}", port: 80}, at: continuous}
  - {id: at-the-edges, tcp: {address: "${address.b.metal}", port: 80, is: open}, at: edges, times: 2}
steps:
  - {id: wait, pause: 6s}
observe: 6s
recover: {services: healthy, instances: as-before, within: 1m}
"#;

#[test]
fn each_fires_for_what_is_there_and_stays_quiet_for_what_is_not() {
    let lab = TestLab::new();
    let directory = qemu_directory("probes");
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    lab.done(&["up", &file("polling.yaml", POLLING), "--wait", "services"]);
    what_is_polled_goes_stale_and_is_heard_again(&lab, &file("stale.yaml", STALE));
    let document = lab.json(&["scenario", &file("look.yaml", SCENARIO)]);
    assert_eq!(document["verdict"], "pass", "{document:#}");
    let variant = &document["worlds"][0]["variants"][0];
    let probe = |id: &str| {
        let mut probes = variant["probes"].as_array().unwrap().iter();
        probes.find(|probe| probe["id"] == id).unwrap()
    };
    let seen = |id: &str| probe(id)["evidence"][0]["text"].as_str().unwrap();
    assert!(seen("answers").starts_with("200: {"), "{}", seen("answers"));
    assert!(seen("fits").contains("one more fits"), "{}", seen("fits"));
    assert_eq!(seen("nobody-there"), "refused");
    let continuous = probe("all-the-time");
    assert_eq!(continuous["result"], "held");
    assert_eq!(continuous["missed"], 0);
    assert!(continuous["looks"].as_u64().unwrap() >= 6, "{continuous:#}");
    assert_eq!(variant["targets"], serde_json::json!([]));
    let alone = file("alone.yaml", ALONE);
    a_process_that_nobody_could_start_again_is_left_alone(&lab, &alone);
    let reserves = format!("{POLLING}compute: {{reserved_host_memory: 200MiB}}\n");
    let reserves = file("reserves.yaml", &reserves);
    a_reservation_that_was_put_back_is_none(&lab, &alone, &reserves);
    runs_are_there_for_those_who_may_only_look(&lab);
}

/// b's service asks a's again and again, and says whether that answered.
const POLLING: &str = r"
schema: twin/topology/v1
name: polling
extends: tiny
hosts:
  b: {services: [{name: apache2, memory: 32MiB, ports: [80], polls: {address: 10.77.8.10, port: 3306}}, {name: neutron-dhcp-agent, memory: 16MiB}]}
";

/// One that nobody could start again, and a reservation for a moment.
const ALONE: &str = "
schema: twin/scenario/v1
name: alone
title: A process of nobody
variants:
  process: {expect: {}}
  reserve: {expect: {fits: fires}}
safety: {baseline: none}
probes: [{id: fits, placement: {host: a, flavor: nano, one-more: fits}}]
steps:
  - {id: kill, do: {process-signal: {host: a, process: twin-guest, signal: kill}}, only: [process]}
  - {id: reserve, do: {compute-reserve: {host: a, memory: 300MiB}}, only: [reserve]}
recover: {within: 1m}
";

fn a_process_that_nobody_could_start_again_is_left_alone(lab: &TestLab, scenario: &str) {
    let refused = lab.run(&["scenario", scenario, "--variant", "process"]);
    let said = text(&refused.stdout);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("is of no service and no instance"), "{said}");
}

/// What a run has set and put back does not stand in the way of what the topology says later.
fn a_reservation_that_was_put_back_is_none(lab: &TestLab, scenario: &str, topology: &str) {
    let fits = || {
        let document = lab.json(&["scenario", scenario, "--variant", "reserve"]);
        assert_eq!(document["verdict"], "pass", "{document:#}");
        let steps = &document["worlds"][0]["variants"][0]["steps"];
        let undo = steps.as_array().unwrap().last().unwrap();
        undo["detail"].as_str().unwrap().to_owned()
    };
    assert!(fits().contains("reserves 128MiB again"));
    lab.done(&["up", topology]);
    assert!(fits().contains("reserves 200MiB again"));
}

/// Members of the group libvirt may look, and not write: they see the runs while no other has the journal open, and while
/// one has. Other users see nothing.
fn runs_are_there_for_those_who_may_only_look(lab: &TestLab) {
    let directory = qemu_directory("nobody");
    // Where the tests were built others may not come.
    let copy = directory.path().join("twin");
    std::fs::copy(env!("CARGO_BIN_EXE_twin"), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = copy.display().to_string();
    let state = lab.state.display().to_string();
    let member = ["--reuid=65534", "--regid=65534", "--groups=libvirt"];
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let looks = || {
        let look = [
            &copy,
            "--json",
            "--lab",
            &lab.name,
            "--state-dir",
            &state,
            "runs",
        ];
        let other = std::process::Command::new("setpriv")
            .args(nobody)
            .args(look)
            .output();
        assert!(!other.unwrap().status.success(), "another user could look");
        let said = tool("setpriv", &[&member[..], &look].concat());
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    let runs = lab.json(&["runs"]);
    valid(lab, "runs", &runs);
    assert!(runs["runs"].as_array().unwrap().len() > 2, "{runs}");
    assert_eq!(looks(), runs);
    let held =
        twin::journal::Journal::open(&lab.state, &twin::clock::SystemClock::shared()).unwrap();
    held.end_killed_runs(uuid::Uuid::nil()).unwrap();
    assert_eq!(looks(), runs);
}

const STALE: &str = r#"
schema: twin/scenario/v1
name: stale
title: What is polled goes away
variants: {only: {expect: {heard: fires, stale: fires}}}
safety: {baseline: none}
probes:
  - {id: heard, http: {address: "${address.b.metal}", port: 80, matches: '"stale":false'}, at: edges, retries: 20}
  - {id: stale, http: {address: "${address.b.metal}", port: 80, matches: '"stale":true'}, since: gone}
steps:
  - {id: gone, do: {process-signal: {host: a, process: mysqld, signal: kill}}}
observe: 30s
recover: {services: healthy, instances: as-before, within: 1m}
"#;

fn what_is_polled_goes_stale_and_is_heard_again(lab: &TestLab, scenario: &str) {
    let document = lab.json(&["scenario", scenario]);
    assert_eq!(document["verdict"], "pass", "{document:#}");
    let probes = document["worlds"][0]["variants"][0]["probes"]
        .as_array()
        .unwrap();
    let seen = |index: usize, piece: usize| {
        let text = probes[index]["evidence"][piece]["text"].as_str().unwrap();
        let (_, answer) = text.split_once("200: ").unwrap();
        serde_json::from_str::<serde_json::Value>(answer).unwrap()
    };
    let (before, stale, after) = (seen(0, 0), seen(1, 0), seen(0, 1));
    // Every 6 s, and what was heard before is kept.
    assert!(before["heard_s_ago"].as_u64().unwrap() <= 7, "{before}");
    assert!(stale["heard_s_ago"].as_u64().unwrap() <= 15, "{stale}");
    assert!(after["heard_s_ago"].as_u64().unwrap() <= 7, "{after}");
}
