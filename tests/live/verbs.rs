//! One small lab through every verb.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use twin::lab::{Layout, Way, choose, find_all};

use crate::suite::seams as conformance;
use crate::support::{TestLab, at_best, text, tool, valid, wait_for};
use crate::turns;

fn power_of<'s>(status: &'s serde_json::Value, host: &str) -> &'s str {
    let hosts = status["hosts"].as_array().unwrap();
    hosts
        .iter()
        .find(|found| found["name"] == host)
        .and_then(|found| found["power"].as_str())
        .unwrap()
}

#[test]
fn a_lab_through_every_verb() {
    let _turn = turns::alone();
    let lab = TestLab::new();
    dry_run_changes_nothing(&lab);
    let up = lab.json(&["up", "tiny"]);
    valid(&lab, "up", &up);
    assert!(up["changed"].as_u64().unwrap() > 8, "{up}");

    let took = at_best(|| assert_eq!(lab.json(&["up", "tiny"])["changed"], 0));
    assert!(took < Duration::from_secs(1), "nothing to do took {took:?}");

    let clocks = ["a", "b"].map(|host| (host, Instant::now(), uptime(&lab, host)));
    what_is_asked_for_otherwise_is_refused(&lab);
    seams(&lab);
    status(&lab);
    exec(&lab);
    copy(&lab);
    for (host, then, was) in clocks {
        let (passed, here) = (uptime(&lab, host) - was, then.elapsed().as_secs_f64());
        // What the two looks take comes on top.
        assert!(
            (passed - here).abs() < here * 0.05 + 1.0,
            "{passed:.1} s have passed in {host}, and {here:.1} s here"
        );
    }
    power(&lab);
    valid(&lab, "doctor", &lab.json(&["doctor"]));
    valid(&lab, "change", &lab.json(&["down"]));
    assert_eq!(power_of(&lab.json(&["status"]), "a"), "shut-off");
    release(&lab);
    valid(&lab, "change", &lab.json(&["destroy"]));
    assert_eq!(lab.traces(), Vec::<String>::new());
}

/// Seconds since a host has booted, by its own clock.
fn uptime(lab: &TestLab, host: &str) -> f64 {
    let said = lab.done(&["exec", host, "--", "cat", "/proc/uptime"]);
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// Names that match nothing are mistyped, and what was decided when the lab was made stays.
fn what_is_asked_for_otherwise_is_refused(lab: &TestLab) {
    let status = lab.json(&["status"]);
    let other = if status["accel"] == "tcg" {
        "kvm"
    } else {
        "tcg"
    };
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--only", "aa*"], 2, "--only aa* names no host"),
        (&["--replace", "bb"], 2, "--replace bb names no host"),
        (&["--scale", "64"], 1, "was made at scale"),
        (&["--accel", other], 1, "was made to run under"),
    ];
    for (flags, code, why) in cases {
        let output = lab.run(&[&["up", "tiny"][..], flags].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        assert!(
            said.contains(why) && said.contains("cure"),
            "{flags:?}: {said}"
        );
    }
    let one = lab.done(&["up", "tiny", "--only", "b"]);
    assert!(one.contains("1 of 2 hosts"), "{one}");
}

/// The real drivers of clock, guests and network do what the simulated ones do.
fn seams(lab: &TestLab) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let drivers = twin::cli::drivers("qemu:///system");
    let layout = Layout::new(lab.state.clone());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    // A port that was given out a moment ago, and is free again.
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    tool("ip", &["link", "add", "twconf1", "type", "bridge"]);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let here = std::net::Ipv4Addr::LOCALHOST;
            let (clock, net) = (drivers.clock.as_ref(), &drivers.hostnet);
            conformance::a_clock_keeps_the_contract(clock).await;
            conformance::a_network_keeps_the_contract(net, "twconf1", (here, open), (here, closed))
                .await;
            let labs = find_all(&drivers, &layout).await.unwrap();
            let found = choose(labs, Some(&lab.name)).unwrap();
            let host = found.host("a").unwrap();
            let guest = drivers
                .guests
                .open(&host.way(&layout, &found.networks).unwrap());
            conformance::a_guest_keeps_the_contract(guest.as_ref(), clock, "a", "vm-0").await;
            let nobody = Way::Channel {
                domain: host.domain.uuid,
                socket: "/nowhere/guest.sock".into(),
            };
            let nobody = drivers.guests.open(&nobody);
            conformance::a_silent_guest_is_told_in_time(nobody.as_ref(), clock).await;
        });
    }));
    tool("ip", &["link", "del", "twconf1"]);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn dry_run_changes_nothing(lab: &TestLab) {
    let picture = || {
        let state = lab.state.display().to_string();
        // Other labs write their memory and disks meanwhile.
        let others = [
            "-path",
            "*/pool/ram",
            "-prune",
            "-o",
            "-path",
            "*/pool/labs/*",
            "-prune",
            "-o",
            "-print",
        ];
        let mut find = vec![state.as_str()];
        find.extend(others);
        [
            tool("virsh", &["list", "--all"]),
            tool("virsh", &["net-list", "--all"]),
            tool("find", &find),
            tool("ip", &["-br", "link"]),
        ]
    };
    let before = picture();
    let planned = lab.done(&["up", "tiny", "--dry-run"]);
    assert!(
        planned.contains("start domain") && planned.contains("undo: destroy domain"),
        "{planned}"
    );
    assert!(before == picture(), "a dry run changed something");
}

fn status(lab: &TestLab) {
    let took = at_best(|| drop(lab.json(&["status"])));
    let status = lab.json(&["status"]);
    valid(lab, "status", &status);
    assert_eq!(status["hosts"].as_array().unwrap().len(), 2);
    assert!(
        status["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|host| host["power"] == "running" && host["agent"] == "answers"),
        "{status}"
    );
    assert!(took < Duration::from_millis(300), "status took {took:?}");
}

fn exec(lab: &TestLab) {
    let all = lab.json(&["exec", "--all", "--", "uname", "-r"]);
    valid(lab, "exec", &all);
    let hosts = all["hosts"].as_array().unwrap();
    assert!(
        hosts.len() == 2
            && hosts
                .iter()
                .all(|host| host["exit"] == 0 && host["stdout"].as_str().unwrap().len() > 3),
        "{all}"
    );
    assert_eq!(
        lab.run(&["exec", "a", "--", "sh", "-c", "exit 42"])
            .status
            .code(),
        Some(42)
    );
    assert_eq!(
        lab.run(&["exec", "a", "--", "/no/such/program"])
            .status
            .code(),
        Some(4)
    );

    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut child = lab
        .command(&["exec", "a", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.stdout == bytes,
        "{} bytes came back of {}",
        output.stdout.len(),
        bytes.len()
    );
}

fn copy(lab: &TestLab) {
    let directory = tempfile::tempdir().unwrap();
    let (there, back) = (
        directory.path().join("there"),
        directory.path().join("back"),
    );
    std::fs::write(&there, [0u8, 255, 10, 13, 0]).unwrap();
    lab.done(&["cp", &there.display().to_string(), "b:/root/file"]);
    lab.done(&["cp", "b:/root/file", &back.display().to_string()]);
    assert_eq!(std::fs::read(&back).unwrap(), [0u8, 255, 10, 13, 0]);
    let missing = lab.run(&["cp", "b:/no/such", &back.display().to_string()]);
    assert_eq!(missing.status.code(), Some(4));
    assert!(text(&missing.stderr).contains("/no/such"));
}

fn power(lab: &TestLab) {
    lab.done(&["power", "off", "b"]);
    assert_eq!(power_of(&lab.json(&["status"]), "b"), "shut-off");
    let up = lab.json(&["up", "tiny"]);
    let steps: Vec<&str> = up["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["id"].as_str().unwrap())
        .filter(|id| *id != "host/a/answer")
        .collect();
    assert_eq!(
        steps,
        ["host/b/start", "host/b/answer"],
        "a shut-off host is started, and nothing else is done"
    );
    // An ordinary domain: libvirt's own shutdown works, through the power button.
    let name = format!("{}-b", lab.name);
    tool("virsh", &["shutdown", &name]);
    wait_for(
        "shut off by its power button",
        Duration::from_secs(60),
        || {
            tool("virsh", &["domstate", &name])
                .contains("shut off")
                .then_some(())
        },
    );
    lab.done(&["power", "on", "b"]);
}

fn release(lab: &TestLab) {
    lab.done(&["up", "tiny"]);
    lab.done(&["exec", "a", "--", "sh", "-c", "echo here > /var/mark; sync"]);
    lab.done(&["snapshot", "kept"]);
    let goes = "baseline kept goes with the disks of a";
    let replacing = lab.done(&["up", "tiny", "--replace", "a", "--dry-run"]);
    assert!(!replacing.contains(goes), "{replacing}");
    let blanking = lab.done(&["up", "tiny", "--replace", "a", "--blank", "--dry-run"]);
    assert!(blanking.contains(goes), "{blanking}");
    let released = lab.json(&["release", "a"]);
    assert!(
        released["notes"][0].as_str().unwrap().starts_with(goes),
        "{released}"
    );
    let refused = lab.run(&["restore", "kept"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    lab.done(&["exec", "b", "--", "true"]);
    lab.done(&["snapshot", "kept", "--remove"]);
    assert_eq!(power_of(&lab.json(&["status"]), "a"), "shut-off");
    lab.done(&["up", "tiny"]);
    assert_ne!(
        lab.run(&["exec", "a", "--", "cat", "/var/mark"])
            .status
            .code(),
        Some(0),
        "a released host is blank"
    );
}
