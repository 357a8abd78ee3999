//! The testcloud, and D-040 in it.

use std::time::Duration;

use crate::support::{TestLab, at_best, full, qemu_directory, root, text, tool, valid};
use crate::turns;

fn variant<'d>(document: &'d serde_json::Value, name: &str) -> &'d serde_json::Value {
    let variants = document["worlds"][0]["variants"].as_array().unwrap();
    variants
        .iter()
        .find(|variant| variant["name"] == name)
        .unwrap()
}

fn probe<'d>(variant: &'d serde_json::Value, id: &str) -> &'d serde_json::Value {
    variant["probes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|probe| probe["id"] == id)
        .unwrap()
}

#[test]
fn oom_openstack1_shows_the_incident_its_cure_and_its_cause() {
    let _turn = turns::alone();
    let lab = TestLab::new();
    let up = ["up", "testcloud", "--scale", "32", "--wait", "services"];
    lab.done(&up);
    let took = at_best(|| assert_eq!(lab.json(&up[..4])["changed"], 0));
    assert!(took < Duration::from_secs(1), "nothing to do took {took:?}");
    let all = lab.json(&["exec", "--all", "--", "uname", "-r"]);
    let hosts = all["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 5, "{all}");
    assert!(
        hosts
            .iter()
            .all(|host| host["exit"] == 0 && host["stdout"].as_str().unwrap().contains("cloud")),
        "{all}"
    );
    let took = at_best(|| drop(lab.done(&["status"])));
    assert!(took < Duration::from_millis(300), "status took {took:?}");

    let seeds: &[&str] = if full() {
        &["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]
    } else {
        &["1"]
    };
    for seed in seeds {
        let mut run = vec!["scenario", "oom-openstack1", "--seed", seed];
        // The control watches for half a minute that nothing happens.
        run.extend(if full() {
            &[][..]
        } else {
            &["--variant", "bug,fix"]
        });
        let document = lab.json(&run);
        valid(&lab, "scenario-result", &document);
        assert_eq!(document["verdict"], "pass", "{document:#}");
        let bug = variant(&document, "bug");
        let line = probe(bug, "oom-kill")["evidence"][0]["text"]
            .as_str()
            .unwrap();
        assert!(
            line.contains("oom-kill:constraint=CONSTRAINT_NONE")
                && line.contains("task=qemu-system-x86"),
            "{line}"
        );
        assert_eq!(
            probe(variant(&document, "fix"), "oom-kill")["result"],
            "quiet"
        );
        assert_eq!(
            probe(variant(&document, "fix"), "no-valid-host")["result"],
            "fired"
        );
        if full() {
            let control = variant(&document, "control");
            assert_eq!(probe(control, "oom-kill")["result"], "quiet");
        }
        the_lab_is_as_before(&lab);
    }
    an_interrupted_run_is_undone(&lab);
    if full() {
        a_cure_that_does_not_cure_fails(&lab);
        a_killed_run_blocks_until_it_is_recovered(&lab);
    }
    a_killed_run_is_put_back_by_whoever_stands_by(&lab);
    a_failure_is_kept_and_put_back_later(&lab);
    a_halt_ends_a_run_and_refuses_the_next(&lab);
}

#[test]
fn the_other_incidents_show_themselves() {
    let lab = TestLab::new();
    lab.done(&["up", "testcloud", "--scale", "32", "--wait", "services"]);
    // Each variant as expected, and everything as before.
    let all = [
        "cross-bridge-reject",
        "dual-homed-cilium",
        "rebuild",
        "host-power-loss",
        "shutoff-capi-mgmt",
    ];
    // The last ones boot hosts and wait for Nova's timers; simulated drivers go through them in CI.
    for name in &all[..if full() { 5 } else { 2 }] {
        let before = network_inside(&lab);
        let mut run = vec!["scenario", name];
        run.extend(if full() {
            &[][..]
        } else {
            &["--variant", "bug"]
        });
        let document = lab.json(&run);
        valid(&lab, "scenario-result", &document);
        assert_eq!(document["verdict"], "pass", "{document:#}");
        let took = document["took_ms"].as_u64().unwrap() / 1000;
        println!("scenario: {name} {took} s");
        assert_eq!(network_inside(&lab), before, "{name}");
        the_lab_is_as_before(&lab);
        nobody_listens_any_more(&lab);
    }
}

/// What captured packets on the lab's bridges has ended with the run, and the bridges take no more than their own.
fn nobody_listens_any_more(lab: &TestLab) {
    let status = lab.json(&["status"]);
    let networks = status["networks"].as_array().unwrap().iter();
    let bridges: Vec<&str> = networks
        .map(|one| one["bridge"].as_str().unwrap())
        .collect();
    crate::support::wait_for("no capture", Duration::from_secs(5), || {
        let processes = tool("ps", &["-eo", "args"]);
        let listens = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            words[0].ends_with("tcpdump") && words.iter().any(|word| bridges.contains(word))
        };
        let promiscuous = |bridge: &&str| {
            let link = tool("ip", &["-d", "link", "show", "dev", bridge]);
            !link.contains("promiscuity 0")
        };
        (!processes.lines().any(listens) && !bridges.iter().any(promiscuous)).then_some(())
    });
}

/// A scenario with something else in its text.
fn changed(name: &str, pairs: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let path = root().join("scenarios").join(format!("{name}.yaml"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in pairs {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    let directory = qemu_directory("changed");
    let file = directory.path().join(format!("{name}.yaml"));
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    (directory, file)
}

/// A cure that is none makes a scenario fail. Those of Nova's policy are tried on simulated drivers.
#[test]
fn fixes_that_do_not_fix_fail() {
    let lab = TestLab::new();
    lab.done(&["up", "testcloud", "--scale", "32", "--wait", "services"]);
    let fails = |arguments: &[&str]| {
        let output = lab.run(arguments);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        the_lab_is_as_before(&lab);
    };
    let metal = "target=${vip.keystone-metal}";
    fails(&[
        "scenario",
        "cross-bridge-reject",
        "--variant",
        "fix",
        "--set",
        metal,
    ]);
    // The interface is taken down, and the source rule is made all the same.
    let rule = [
        ("    only: [bug]\n", "    only: [bug, fix]\n"),
        (
            "  - {id: one-interface, do: {nic-down: {host: \"${host}\", nic: \"${nic.capi-mgmt.metal}\"}}, only: [fix]}\n",
            "",
        ),
    ];
    let (_keep, file) = changed("dual-homed-cilium", &rule);
    fails(&["scenario", &file, "--variant", "fix"]);
    if full() {
        // Switched off, and not released: nothing is forgotten.
        let off = [(
            "host-release: {host: ",
            "host-power: {power: \"off\", host: ",
        )];
        let (_keep, file) = changed("rebuild", &off);
        fails(&["scenario", &file, "--variant", "release"]);
    }
}

/// Rules, routes, disciplines, tables and namespaces inside capi-mgmt.
fn network_inside(lab: &TestLab) -> String {
    let look = "ip rule; ip route show table all | grep -v '^broadcast\\|^local\\|^multicast\\|proto kernel' || :; \
        tc qdisc show | grep -v noqueue || :; nft list tables; ip netns list; cat /proc/sys/net/ipv4/ip_forward";
    lab.done(&["exec", "capi-mgmt", "--", "sh", "-c", look])
}

fn a_failure_is_kept_and_put_back_later(lab: &TestLab) {
    let told = lab.done(&[
        "scenario",
        "cross-bridge-reject",
        "--variant",
        "bug",
        "--keep",
    ]);
    assert!(told.contains("KEPT  as-a-tenant: in place"), "{told}");
    let kept = lab.json(&["report"]);
    assert_eq!(kept["kept"], serde_json::json!(["as-a-tenant"]), "{kept:#}");
    let rules = lab.done(&["exec", "capi-mgmt", "--", "ip", "rule"]);
    assert!(rules.contains("lookup 303"), "{rules}");
    let refused = lab.run(&["scenario", "cross-bridge-reject"]);
    assert_eq!(refused.status.code(), Some(5), "{}", text(&refused.stderr));
    lab.done(&["recover"]);
    let rules = lab.done(&["exec", "capi-mgmt", "--", "ip", "rule"]);
    assert!(!rules.contains("lookup 303"), "{rules}");
}

fn a_halt_ends_a_run_and_refuses_the_next(lab: &TestLab) {
    let child = lab.spawn(&["scenario", "cross-bridge-reject", "--variant", "fix"]);
    crate::support::wait_for("its act", Duration::from_secs(60), || {
        let rules = lab.run(&["exec", "capi-mgmt", "--", "ip", "rule"]);
        text(&rules.stdout).contains("lookup 303").then_some(())
    });
    let halted = lab.json(&["halt"]);
    valid(lab, "halt", &halted);
    let output = child.wait_with_output().unwrap();
    let refused = lab.run(&["scenario", "cross-bridge-reject"]);
    lab.done(&["halt", "--lift"]);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("halt --lift"));
    let rules = lab.done(&["exec", "capi-mgmt", "--", "ip", "rule"]);
    assert!(!rules.contains("lookup 303"), "{rules}");
    the_lab_is_as_before(lab);
}

fn the_lab_is_as_before(lab: &TestLab) {
    let status = lab.json(&["status"]);
    assert_eq!(status["dirty"], false);
    // The run has compared the lab with its own baseline, and needs that no more.
    assert_eq!(status["baselines"], serde_json::json!([]));
    let openstack1 = status["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|host| host["name"] == "openstack1")
        .unwrap();
    let instances = openstack1["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 2, "{openstack1}");
    assert!(
        instances
            .iter()
            .all(|instance| instance["status"] == "ACTIVE"),
        "{openstack1}"
    );
    assert!(
        openstack1["services"]
            .as_array()
            .unwrap()
            .iter()
            .all(|service| service["state"] == "healthy"),
        "{openstack1}"
    );
}

fn a_cure_that_does_not_cure_fails(lab: &TestLab) {
    let output = lab.run(&[
        "scenario",
        "oom-openstack1",
        "--variant",
        "fix",
        "--set",
        "reserved=1024MiB",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    the_lab_is_as_before(lab);
}

fn an_interrupted_run_is_undone(lab: &TestLab) {
    let child = lab.spawn(&["scenario", "oom-openstack1", "--variant", "bug"]);
    it_fills(lab);
    tool("kill", &["-INT", &child.id().to_string()]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    the_lab_is_as_before(lab);
}

fn a_killed_run_blocks_until_it_is_recovered(lab: &TestLab) {
    // No watchdog runs.
    let mut alone = lab.command(&["scenario", "oom-openstack1", "--variant", "fix"]);
    kill_in_the_middle(lab, alone.env("TWIN_ALONE", "1"));
    let blocked = lab.run(&["scenario", "oom-openstack1"]);
    assert_eq!(blocked.status.code(), Some(5), "{}", text(&blocked.stderr));
    assert!(text(&blocked.stderr).contains("twin recover"));
    valid(lab, "recover", &lab.json(&["recover"]));
    let again = lab.json(&["recover"]);
    assert_eq!(
        again["runs"],
        serde_json::json!([]),
        "a second recover has nothing to do"
    );
    well_again(lab);
    the_lab_is_as_before(lab);
}

/// Starts a run and kills it once it boots instances.
fn kill_in_the_middle(lab: &TestLab, command: &mut std::process::Command) {
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    it_fills(lab);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits until a run boots instances.
fn it_fills(lab: &TestLab) {
    crate::support::wait_for("its first act", Duration::from_secs(60), || {
        let listed = lab.json(&["status"])["hosts"].to_string();
        listed.contains("\"fill-").then_some(())
    });
}

fn well_again(lab: &TestLab) {
    crate::support::wait_for("as before", Duration::from_secs(60), || {
        let status = lab.json(&["status"]);
        let ill = [
            "\"starting\"",
            "\"down\"",
            "\"fill-",
            "SHUTOFF",
            "\"dirty\":true",
        ];
        let told = status.to_string();
        (!ill.iter().any(|word| told.contains(word))).then_some(())
    });
}

/// Whoever stands by puts a dead run back without being asked.
fn a_killed_run_is_put_back_by_whoever_stands_by(lab: &TestLab) {
    let mut run = lab.command(&["scenario", "oom-openstack1", "--variant", "fix"]);
    kill_in_the_middle(lab, &mut run);
    well_again(lab);
    // What is left is the run's baseline, which recover compares the lab with and removes.
    let recovered = lab.json(&["recover"]);
    assert_eq!(recovered["runs"], serde_json::json!([]), "{recovered}");
    the_lab_is_as_before(lab);
}
