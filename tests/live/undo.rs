//! Putting back when something stands in the way, when the user is in a hurry, and beside what others have made.

use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sabotage::{picture, same};
use crate::support::{TestLab, full, killed, qemu_directory, text, tool, wait_for};
use crate::turns;

/// Faults of several kinds, none of which takes a boot to put back, and then a long wait.
const FAULTS: &str = r#"
schema: twin/scenario/v1
name: faults
title: Some faults
variants: {only: {expect: {}}}
safety: {baseline: none}
probes: []
steps:
  - {id: file, do: {file-change: {host: a, path: /etc/hosts, content: "127.0.0.1 elsewhere"}}}
  - {id: slow, do: {net-emulate: {host: b, nic: "${nic.b.metal}", delay: 20ms}}}
  - {id: service, do: {service-stop: {host: a, service: mysqld}}}
  - {id: route, do: {policy-route: {host: a, from: "${address.a.provider}", via: "${gateway.provider}", nic: "${nic.a.provider}", table: 77}}}
  - {id: cut, do: {partition: {between: [a], and: [b]}}}
  - {id: calm, pause: 10m}
recover: {services: healthy, instances: as-before, within: 10s}
"#;

fn written(text: &str) -> (tempfile::TempDir, String) {
    let directory = qemu_directory("undo");
    let file = directory.path().join("faults.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    (directory, file)
}

/// A run, and the lines that it tells of itself, with when each came.
struct Run {
    child: std::process::Child,
    told: std::sync::mpsc::Receiver<(Instant, String)>,
    seen: Vec<String>,
}

impl Run {
    fn start(lab: &TestLab, file: &str) -> Self {
        let mut command = lab.command(&["scenario", file]);
        // As a shell has it at a terminal: what twin starts is in its group.
        command.process_group(0);
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap();
        let lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let seen = Vec::new();
        Self { child, told, seen }
    }

    /// Waits for a line that has `word` in it; returns when it came.
    fn tells(&mut self, word: &str, within: Duration) -> Instant {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok((at, line)) if line.contains(word) => return at,
                Ok((_, line)) => self.seen.push(line),
                Err(why) => panic!("{word:?} was not told ({why}): {:#?}", self.seen),
            }
        }
    }

    /// Sends a signal as a terminal does: to all of the group.
    fn signal(&self, name: &str) {
        tool("kill", &[name, "--", &format!("-{}", self.child.id())]);
    }

    fn ends(&mut self, within: Duration) -> Option<i32> {
        let child = &mut self.child;
        let ended = wait_for("the run ends", within, || child.try_wait().unwrap());
        ended.code()
    }
}

#[test]
fn what_can_be_put_back_is_at_once_and_what_cannot_is_dirty() {
    let _turn = turns::alone();
    let lab = TestLab::new();
    lab.done(&["up", "tiny", "--wait", "services"]);
    let (_keep, file) = written(FAULTS);
    let before = picture(&lab);
    what_a_dry_run_says(&lab);
    a_run_that_is_interrupted_is_put_back_at_once(&lab, &file, &before);
    if full() {
        what_needs_no_boot_does_not_wait_for_one(&lab, &before);
    }
    what_was_in_a_guests_memory_has_ended_with_it(&lab, &file, &before);
    an_undo_that_cannot_work_is_dirty_and_the_others_are_done(&lab, &file, &before);
}

/// What cannot be known before the steps that come first is told as that; what is mistyped is refused.
fn what_a_dry_run_says(lab: &TestLab) {
    let (_keep, file) = written(&FAULTS.replace(
        "  - {id: file,",
        "  - {id: dead, do: {host-power: {host: b, power: \"off\"}}}\n  - {id: alive, do: {host-power: {host: b, power: \"on\"}}}\n  - {id: file,",
    ));
    let said = lab.done(&["scenario", &file, "--dry-run"]);
    assert!(
        said.contains("alive: after what the steps before do to b; now: b is Running already"),
        "{said}"
    );
    assert!(!said.contains("refused"), "{said}");
    let mistyped = lab.run(&["scenario", &file, "--dry-run", "--variant", "onyl"]);
    assert_eq!(
        mistyped.status.code(),
        Some(2),
        "{}",
        text(&mistyped.stderr)
    );
}

/// The host that was killed boots, and all else is put back meanwhile.
fn what_needs_no_boot_does_not_wait_for_one(lab: &TestLab, before: &str) {
    let (_keep, file) = written(&FAULTS.replace(
        "  - {id: calm,",
        "  - {id: autostart, do: {host-autostart: {host: b, autostart: \"on\"}}}\n  - {id: dead, do: {host-power: {host: b, power: kill}}}\n  - {id: calm,",
    ));
    let mut run = Run::start(lab, &file);
    run.tells("let 600s pass", Duration::from_secs(60));
    run.signal("-INT");
    let told = Instant::now();
    let look = "cat /etc/hosts; ip rule";
    wait_for("a is as before", Duration::from_secs(10), || {
        let said = lab.run(&["exec", "a", "--", "sh", "-c", look]);
        let there = text(&said.stdout);
        (said.status.success() && !there.contains("elsewhere") && !there.contains("lookup 77"))
            .then_some(())
    });
    println!("beside a boot: a is as before after {:?}", told.elapsed());
    assert_eq!(
        run.ends(Duration::from_secs(120)),
        Some(130),
        "{:#?}",
        run.seen
    );
    same(before, &picture(lab), "an interrupt after a kill");
}

fn a_run_that_is_interrupted_is_put_back_at_once(lab: &TestLab, file: &str, before: &str) {
    // While it waits, and while it acts.
    let mut cases = vec![("-INT", "let 600s pass"), ("-TERM", "cut a off")];
    if full() {
        let more = [
            "write 19 bytes",
            "on eth0 of b",
            "stop mysqld",
            "route what",
        ];
        for signal in ["-INT", "-TERM", "-HUP"] {
            cases.extend(more.map(|word| (signal, word)));
        }
        cases.push(("-HUP", "let 600s pass"));
    }
    for (signal, word) in cases {
        let what = format!("{signal} at {word:?}");
        let mut run = Run::start(lab, file);
        run.tells(word, Duration::from_secs(60));
        let told = Instant::now();
        run.signal(signal);
        let undoing = run.tells("undoing", Duration::from_secs(10));
        let began = undoing.duration_since(told);
        assert!(began < Duration::from_secs(1), "{what}: {began:?}");
        assert_eq!(run.ends(Duration::from_secs(60)), Some(130), "{what}");
        let took = told.elapsed();
        println!("{what}: undo began after {began:?}, the run ended after {took:?}");
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
        assert_eq!(lab.json(&["status"])["dirty"], false, "{what}");
        same(before, &picture(lab), &what);
    }
    // A second one ends it where it is; what is open is in the journal.
    let mut run = Run::start(lab, file);
    run.tells("let 600s pass", Duration::from_secs(60));
    run.signal("-INT");
    run.tells("undoing", Duration::from_secs(10));
    run.signal("-INT");
    assert_eq!(run.ends(Duration::from_secs(10)), Some(130));
    // Whoever stands by has perhaps begun already.
    wait_for("all is put back", Duration::from_secs(60), || {
        let recovered = lab.run(&["recover"]);
        let status = lab.run(&["--json", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        (recovered.status.success() && status["dirty"] == false).then_some(())
    });
    same(before, &picture(lab), "a second signal");
}

/// The queueing discipline of a host whose power was taken is gone: nothing is left of the run.
fn what_was_in_a_guests_memory_has_ended_with_it(lab: &TestLab, file: &str, before: &str) {
    let mut run = Run::start(lab, file);
    run.tells("let 600s pass", Duration::from_secs(60));
    tool("virsh", &["destroy", &format!("{}-b", lab.name)]);
    run.signal("-INT");
    let ended = run.ends(Duration::from_secs(60));
    assert_eq!(ended, Some(130), "{:#?}", run.seen);
    assert_eq!(lab.json(&["status"])["dirty"], false);
    lab.done(&["power", "on", "b"]);
    wait_for("services run", Duration::from_secs(60), || {
        (picture(lab) == before).then_some(())
    });
}

/// A guest is there, and does not answer.
fn an_undo_that_cannot_work_is_dirty_and_the_others_are_done(
    lab: &TestLab,
    file: &str,
    before: &str,
) {
    let domain = format!("{}-b", lab.name);
    let mut run = Run::start(lab, file);
    run.tells("let 600s pass", Duration::from_secs(60));
    let stop = "(sleep 1; kill -STOP $PPID) >/dev/null 2>&1 &";
    lab.done(&["exec", "b", "--", "sh", "-c", stop]);
    let ask = ["exec", "b", "--", "true"];
    let patience = Duration::from_secs(3);
    wait_for("b is deaf", Duration::from_secs(30), || {
        killed(lab, &ask, patience).then_some(())
    });
    run.signal("-INT");
    let ended = run.ends(Duration::from_secs(240));
    assert_eq!(ended, Some(5), "{:#?}", run.seen);
    assert_eq!(lab.json(&["status"])["dirty"], true);
    // What does not need b is put back; what is left is told, and how to go on.
    let hosts = lab.done(&["exec", "a", "--", "cat", "/etc/hosts"]);
    assert!(!hosts.contains("elsewhere"), "{hosts}");
    let rules = lab.done(&["exec", "a", "--", "ip", "rule"]);
    assert!(!rules.contains("77"), "{rules}");
    let recovered = lab.run(&["recover"]);
    let said = text(&recovered.stdout);
    assert_eq!(recovered.status.code(), Some(5), "{said}");
    assert!(said.contains("LEFT slow: "), "{said}");
    assert!(
        said.contains("`twin power cycle b` starts it anew"),
        "{said}"
    );
    assert!(said.contains("then `twin recover` again"), "{said}");
    assert!(!said.contains("LEFT file"), "{said}");
    let would = lab.done(&["scenario", file, "--dry-run"]);
    assert!(
        would.contains("would be refused: something of a run"),
        "{would}"
    );
    let refused = lab.run(&["scenario", file]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("slow of run"), "{said}");
    assert!(said.contains("twin recover"), "{said}");
    // The one that starts the agents ends the one that stands still.
    tool("virsh", &["reset", &domain]);
    wait_for("b answers", Duration::from_secs(60), || {
        let answered = lab.run(&["exec", "b", "--", "true"]);
        answered.status.success().then_some(())
    });
    lab.done(&["recover"]);
    wait_for("services run", Duration::from_secs(60), || {
        (picture(lab) == before).then_some(())
    });
    assert_eq!(lab.json(&["status"])["dirty"], false);
}

/// What somebody has made by hand on this machine, and inside a host.
struct ByHand {
    directory: tempfile::TempDir,
}

const INSIDE: &str = "ip rule add pref 4242 from 192.0.2.7 lookup 4242; ip route add 192.0.2.0/24 via 10.199.9.2 dev hand table 4242; \
    ip route add 198.51.100.0/24 via 10.199.9.2 dev hand; nft add table ip by_hand; nft add chain ip by_hand c '{ type filter hook forward priority 7; }'; \
    nft add rule ip by_hand c ip saddr 192.0.2.7 drop; tc qdisc replace dev hand root tbf rate 1mbit burst 32kbit latency 400ms; \
    echo by-hand >/etc/by-hand; chown 7:8 /etc/by-hand; chmod 4750 /etc/by-hand; touch -d @1000000000 /etc/by-hand; ln /etc/by-hand /etc/by-hand-2; \
    ln -s by-hand-nowhere /etc/by-hand-link; ip route add 203.0.113.0/24 dev eth0 table 4243; ip route add 203.0.113.0/24 dev eth0; \
    tc qdisc replace dev eth1 root fq_codel";

/// Faults on the very things: they go with the interface, and come back with it.
const ON_THE_SAME: &str = r#"
  - {id: owned, do: {file-change: {host: a, path: /etc/by-hand, content: "twin's"}}}
  - {id: nowhere, do: {file-change: {host: a, path: /etc/by-hand-link, content: "twin's"}}}
  - {id: down, do: {nic-down: {host: a, nic: "${nic.a.metal}"}}}
  - {id: up, undo: down}
  - {id: calm,"#;

/// An interface that somebody shapes is left to them.
const SHAPED: &str = r#"
schema: twin/scenario/v1
name: shaped
title: One that is shaped already
variants: {only: {expect: {}}}
safety: {baseline: none}
probes: []
steps: [{id: slow, do: {net-emulate: {host: a, nic: "${nic.a.provider}", delay: 20ms}}}]
recover: {within: 10s}
"#;

impl ByHand {
    fn make(lab: &TestLab) -> Self {
        for line in [
            "link add twhand0 type veth peer name twhand1",
            "address add 10.199.8.1/24 dev twhand0",
            "link set twhand0 up",
            "rule add pref 4242 from 192.0.2.7 lookup 4242",
            "route add 192.0.2.0/24 dev twhand0 table 4242",
            "route add 198.51.100.0/24 dev twhand0",
        ] {
            tool("ip", &line.split(' ').collect::<Vec<_>>());
        }
        let rules = "add table bridge by_hand; add chain bridge by_hand c { type filter hook forward priority -310 ; }; \
            add rule bridge by_hand c ip saddr 192.0.2.7 drop; add table inet by_hand; \
            add chain inet by_hand c { type filter hook forward priority -310 ; }; add rule inet by_hand c ip saddr 192.0.2.7 drop";
        tool("nft", &[rules]);
        let tbf = "qdisc replace dev twhand0 root tbf rate 1mbit burst 32kbit latency 400ms";
        tool("tc", &tbf.split(' ').collect::<Vec<_>>());
        let link = "ip link add hand type veth peer name hand1; ip address add 10.199.9.1/24 dev hand; ip link set hand up; ip link set hand1 up; ";
        lab.done(&["exec", "a", "--", "sh", "-ec", &format!("{link}{INSIDE}")]);
        let directory = qemu_directory("by-hand");
        std::fs::write(directory.path().join("file"), "by hand\n").unwrap();
        Self { directory }
    }

    /// All of it, and all other rules and routes of this machine but for what counts.
    fn picture(&self, lab: &TestLab) -> String {
        let mut picture = String::new();
        for (program, line) in [
            ("ip", "rule"),
            ("ip", "-4 route show table all"),
            ("ip", "-d link show dev twhand0"),
            ("tc", "qdisc show dev twhand0"),
            ("nft", "list table bridge by_hand"),
            ("nft", "list table inet by_hand"),
            ("nft", "list tables"),
            ("iptables-save", "-t filter"),
            ("iptables-save", "-t nat"),
        ] {
            let said = tool(program, &line.split(' ').collect::<Vec<_>>());
            let lines = said.lines().filter(|line| !line.starts_with('#'));
            // The packets of a chain's policy are counted.
            let lines = lines.map(|line| line.split(" [").next().unwrap());
            picture.extend(lines.map(|line| format!("{line}\n")));
        }
        let look = "ip rule; ip -4 route show table all; nft list table ip by_hand; tc qdisc show dev hand; tc qdisc show dev eth1; cat /etc/by-hand; \
            stat -c '%a %u:%g %i %h %Y' /etc/by-hand /etc/by-hand-2; ls -A /etc | grep by-hand; readlink /etc/by-hand-link; [ ! -e /etc/by-hand-link ]";
        picture.push_str(&lab.done(&["exec", "a", "--", "sh", "-ec", look]));
        let file = self.file();
        let metadata = std::fs::metadata(&file).unwrap();
        picture.push_str(&format!(
            "{:?} {:?}",
            metadata.modified(),
            std::fs::read(file)
        ));
        picture
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("file")
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        // Each is this test's own; what is gone already is as good.
        for (program, line) in [
            ("ip", "rule del pref 4242"),
            ("ip", "link del twhand0"),
            ("nft", "delete table bridge by_hand"),
            ("nft", "delete table inet by_hand"),
        ] {
            let _ = std::process::Command::new(program)
                .args(line.split(' '))
                .output();
        }
    }
}

/// Packets that a host of a lab sent to another, and how many were answered.
fn pinged(said: &str) -> (u32, u32) {
    let line = said
        .lines()
        .find(|line| line.contains("packets transmitted"));
    let words: Vec<&str> = line
        .unwrap_or_else(|| panic!("{said}"))
        .split(' ')
        .collect();
    (words[0].parse().unwrap(), words[3].parse().unwrap())
}

#[test]
fn what_others_have_made_is_untouched_and_their_packets_go_on() {
    let _turn = turns::alone();
    let (lab, stranger) = (TestLab::new(), TestLab::new());
    lab.done(&["up", "tiny", "--wait", "services"]);
    stranger.done(&["up", "tiny", "--wait", "services"]);
    let by_hand = ByHand::make(&lab);
    let before = (by_hand.picture(&lab), picture(&lab), picture(&stranger));
    let faults = FAULTS.replace("pause: 10m", "pause: 12s");
    let faults = faults.replace("\n  - {id: calm,", ON_THE_SAME);
    let (_keep, file) = written(&faults);
    let mut run = Run::start(&lab, &file);
    run.tells("let 12s pass", Duration::from_secs(60));
    let peer = |lab: &TestLab| {
        let status = lab.json(&["status"]);
        let hosts = status["hosts"].as_array().unwrap().clone();
        let b = hosts.into_iter().find(|host| host["name"] == "b").unwrap();
        let address = b["addresses"][0].as_str().unwrap();
        address.split('/').next().unwrap().to_owned()
    };
    let ping = |lab: &TestLab, count: &str| {
        let script = format!("ping -c {count} -W 2 {} || :", peer(lab));
        pinged(&lab.done(&["exec", "a", "--", "sh", "-c", &script]))
    };
    let changed = [
        "exec",
        "a",
        "--",
        "cat",
        "/etc/by-hand",
        "/etc/by-hand-nowhere",
    ];
    assert_eq!(lab.done(&changed), "twin'stwin's");
    let (sent, answered) = ping(&stranger, "8");
    assert_eq!((sent, answered), (8, 8), "the stranger's lab lost packets");
    let (sent, answered) = ping(&lab, "1");
    assert_eq!(
        (sent, answered),
        (1, 0),
        "the partition lets packets through"
    );
    assert_eq!(
        run.ends(Duration::from_secs(90)),
        Some(0),
        "{:#?}",
        run.seen
    );
    let (_keep, shaped) = written(SHAPED);
    let refused = lab.run(&["scenario", &shaped]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    let why = text(&refused.stdout);
    assert!(why.contains("fq_codel, which is left alone"), "{why}");
    println!("a stranger's lab: 8 of 8 packets answered during a partition of another");
    same(&before.0, &by_hand.picture(&lab), "what was made by hand");
    same(&before.1, &picture(&lab), "the lab");
    same(&before.2, &picture(&stranger), "the stranger's lab");
    let (sent, answered) = ping(&lab, "2");
    assert_eq!((sent, answered), (2, 2), "the partition is mended");
}
