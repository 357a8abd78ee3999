//! Every action in a real lab: it takes effect and is put back; made ineffective, it never passes.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use twin::clock::Clock;
use twin::diagnostics::Source;
use twin::guest::Guest;
use twin::journal::Journal;
use twin::lab::{Drivers, Event, Layout, NoWatchdog, Watch, find_all};
use twin::scenario::{self, Choice, Outcome, RunEvent, RunResult, RunWatch, Verdict, World};
use twin::sim::{Decide, Fate, faulty};
use twin::units::Seed;

use crate::support::{TestLab, full, qemu_directory, tool, wait_for};
use crate::turns;

/// Each action with arguments that do something to the lab `tiny`.
const ACTIONS: &[(&str, &str)] = &[
    ("clock-step", "{host: a, by: 90s}"),
    ("compute-reserve", "{host: a, memory: 256MiB}"),
    ("compute-resume", "{host: a, resume: \"on\"}"),
    ("cpu-pressure", "{host: b, cpus: 1}"),
    (
        "default-route",
        "{host: a, via: \"${gateway.provider}\", nic: \"${nic.a.provider}\"}",
    ),
    ("disk-fill", "{host: a, leave: 8MiB}"),
    ("disk-throttle", "{host: a, rate: 1MiB, operations: 20}"),
    (
        "dns",
        "{host: a, server: \"${gateway.metal}\", is: refuses}",
    ),
    ("dns", "{host: b, server: \"${gateway.metal}\", is: silent}"),
    (
        "file-change",
        "{host: a, path: /etc/hosts, content: \"127.0.0.1 elsewhere\"}",
    ),
    (
        "forward-policy",
        "{from: provider, to: metal, policy: refuse}",
    ),
    (
        "forward-policy",
        "{from: metal, to: provider, policy: drop}",
    ),
    ("host-autostart", "{host: b, autostart: \"on\"}"),
    ("host-power", "{host: b, power: pause}"),
    ("host-power", "{host: b, power: \"off\"}"),
    ("host-power", "{host: b, power: kill}"),
    ("host-power", "{host: a, power: reset}"),
    ("host-power", "{host: a, power: cycle}"),
    ("host-release", "{host: b}"),
    ("instance-boot", "{host: a, flavor: nano, name: one-more}"),
    ("instance-fill", "{host: a, flavor: nano}"),
    ("instance-kill", "{host: a, instance: vm-0}"),
    ("instance-touch", "{host: a}"),
    ("memory-balloon", "{host: b, memory: 768MiB}"),
    ("memory-pressure", "{host: b, memory: 64MiB}"),
    (
        "net-emulate",
        "{host: a, nic: \"${nic.a.metal}\", delay: 50ms, loss: 5%, rate-kbit: 800}",
    ),
    (
        "nic-attach",
        "{host: b, network: provider, address: \"${free.provider}\"}",
    ),
    (
        "nic-bandwidth",
        "{host: a, network: metal, rate-kbit: 2000}",
    ),
    ("nic-detach", "{host: a, network: provider}"),
    ("nic-detach", "{host: b, network: metal}"),
    ("nic-down", "{host: a, nic: \"${nic.a.metal}\"}"),
    ("nic-link", "{host: b, network: metal}"),
    ("partition", "{between: [a], and: [b]}"),
    (
        "pod",
        "{host: a, name: pod, subnet: 10.244.0.0/24, nics: [\"${nic.a.metal}\"]}",
    ),
    (
        "policy-route",
        "{host: a, from: \"${address.a.provider}\", via: \"${gateway.provider}\", nic: \"${nic.a.provider}\", table: 77}",
    ),
    ("process-signal", "{host: a, process: mysqld, signal: stop}"),
    (
        "process-signal",
        "{host: b, process: apache2, signal: kill}",
    ),
    ("route-blackhole", "{host: a, to: 198.51.100.0/24}"),
    ("service-run", "{host: a, services: none}"),
    ("service-stop", "{host: b, service: apache2}"),
];

/// While this is set, calls that would change something are taken and do nothing.
type Deaf = Arc<AtomicBool>;

/// Makes the drivers deaf while an action acts.
struct WhileActing {
    sabotage: bool,
    deaf: Deaf,
}

impl Watch for WhileActing {
    fn tell(&self, _: Event<'_>) {}
}

impl RunWatch for WhileActing {
    fn happened(&self, event: &RunEvent) {
        match event {
            RunEvent::Acting { .. } => self.deaf.store(self.sabotage, Ordering::SeqCst),
            RunEvent::Acted { .. } => self.deaf.store(false, Ordering::SeqCst),
            _ => {}
        }
    }
}

/// A scenario of this one action, without anything that is expected but that it takes effect.
fn scenario_of(action: &str, arguments: &str) -> scenario::Scenario {
    let text = format!(
        "schema: twin/scenario/v1\nname: one\ntitle: One action\nvariants: {{only: {{expect: {{}}}}}}\n\
         safety: {{baseline: none}}\nprobes: []\nsteps: [{{id: act, do: {{{action}: {arguments}}}, within: 20s}}]\n\
         observe: 0s\nrecover: {{services: healthy, instances: as-before, within: 2m}}\n"
    );
    let name = format!("{action}.yaml");
    scenario::parse(&Source { name, text }).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// What an action could have left, inside the hosts and outside.
pub(crate) fn picture(lab: &TestLab) -> String {
    let look = "ip rule; ip -4 route show table all; tc qdisc show | grep -v noqueue || :; nft list tables; ip netns list; \
        md5sum /etc/hosts; stat -c '%a %u:%g' /etc/hosts; cd /proc/sys/net/ipv4; cat ip_forward conf/all/rp_filter conf/all/send_redirects; cd /; ls /run; \
        ls -A /etc /var; cat /var/marker; grep -h '^State:.*(stopped)' /proc/[0-9]*/status 2>/dev/null || :; \
        cat /proc/[0-9]*/comm 2>/dev/null | grep -E '^load-' || :; \
        for nic in /sys/class/net/eth*; do echo $nic $(cat $nic/flags $nic/carrier $nic/address); done";
    let mut picture = String::new();
    for host in ["a", "b"] {
        picture.push_str(&lab.done(&["exec", host, "--", "sh", "-c", look]));
        let domain = format!("{}-{host}", lab.name);
        picture.push_str(&tool("virsh", &["dumpxml", "--inactive", &domain]));
        picture.push_str(&tool("virsh", &["domstate", &domain]));
        let info = tool("virsh", &["dominfo", &domain]);
        let kept = ["Autostart", "Used memory"];
        let kept = |line: &&str| kept.iter().any(|word| line.starts_with(word));
        picture.extend(info.lines().filter(kept));
        let blocks = ["qemu-monitor-command", &domain, "--hmp", "info block"];
        let blocks = tool("virsh", &blocks);
        picture.extend(blocks.lines().filter(|line| line.contains("throttling")));
        picture.push_str(&ends(&domain));
    }
    let disks = "find \"$1\" -name 'disk*' | sort";
    let folder = lab_folder(lab).display().to_string();
    picture.push_str(&tool("sh", &["-c", disks, "sh", &folder]));
    let status = lab.json(&["status"]);
    for host in status["hosts"].as_array().unwrap() {
        picture.push_str(&format!("{} {}\n", host["services"], host["instances"]));
    }
    picture.push_str(&settings(lab));
    let tables = tool("nft", &["list", "tables"]);
    // Of this lab: another test process has its own.
    let uuid = status["uuid"].as_str().unwrap().replace('-', "");
    picture.extend(tables.lines().filter(|line| line.contains(&uuid[..12])));
    picture
}

/// The interfaces that a domain has, and the queueing disciplines of this machine's ends of them.
fn ends(domain: &str) -> String {
    let listed = tool("virsh", &["-q", "domiflist", domain]);
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [tap, _, network, _, mac] = words[..] else {
            return line.to_owned();
        };
        let discipline = tool("tc", &["qdisc", "show", "dev", tap]);
        let kind = discipline.split_whitespace().nth(1).unwrap_or("none");
        format!("{mac} {network} {kind}\n")
    };
    let mut ends: Vec<String> = listed.lines().map(one).collect();
    ends.sort();
    ends.concat()
}

fn lab_folder(lab: &TestLab) -> PathBuf {
    let uuid = lab.json(&["status"])["uuid"].as_str().unwrap().to_owned();
    lab.state.join("pool/labs").join(uuid)
}

/// Asks each host something, by the ways that twin has.
fn ask_each<T>(lab: &TestLab, ask: &impl AsyncFn(&dyn Guest, &dyn Clock) -> T) -> Vec<(String, T)> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let drivers = twin::cli::drivers("qemu:///system");
        let layout = Layout::new(lab.state.clone());
        let labs = find_all(&drivers, &layout).await.unwrap();
        let mut labs = labs.into_iter();
        let found = labs.find(|found| found.record.name.as_str() == lab.name);
        let found = found.unwrap();
        let mut answers = Vec::new();
        for host in &found.hosts {
            let way = host.way(&layout, &found.networks).unwrap();
            let guest = drivers.guests.open(&way);
            let answer = ask(guest.as_ref(), drivers.clock.as_ref()).await;
            answers.push((host.name.to_string(), answer));
        }
        answers
    })
}

/// nova-compute's settings, as it goes by them.
fn settings(lab: &TestLab) -> String {
    let settings = ask_each(lab, &async |guest: &dyn Guest, _: &dyn Clock| {
        let state = guest.state().await.unwrap();
        format!("{:?} {:?}", state.reserved_mib, state.resume)
    });
    format!("{settings:?}\n")
}

/// How far each host's clock is behind this machine's, in microseconds, by the quickest of some answers.
pub(crate) fn clocks(lab: &TestLab) -> Vec<(String, i64)> {
    ask_each(lab, &async |guest: &dyn Guest, here: &dyn Clock| {
        let mut readings = Vec::new();
        for _ in 0..5 {
            readings.push(guest.clock(here).await.unwrap());
        }
        let quickest = readings.iter().min_by_key(|reading| reading.round_trip);
        quickest.unwrap().behind_us
    })
}

/// Checks that the clocks are within 250 ms of what they were.
pub(crate) fn same_clocks(before: &[(String, i64)], after: &[(String, i64)], what: &str) {
    for ((host, was), (_, now)) in before.iter().zip(after) {
        let off = (now - was) / 1000;
        assert!(
            off.abs() <= 250,
            "{what}: the clock of {host} is {off} ms from what it was"
        );
    }
}

/// Marks the hosts' disks, so that others in their place are seen.
pub(crate) fn mark_disks(lab: &TestLab) {
    let mark = "cat /proc/sys/kernel/random/uuid >/var/marker; sync";
    lab.done(&["exec", "--all", "--", "sh", "-c", mark]);
}

/// Shows only the lines that differ.
pub(crate) fn same(before: &str, after: &str, what: &str) {
    let only = |of: &str, not: &str| -> Vec<String> {
        let lines = of
            .lines()
            .filter(|line| !not.lines().any(|other| other == *line));
        lines.map(str::to_owned).collect()
    };
    let (gone, new) = (only(before, after), only(after, before));
    assert!(before == after, "{what}: gone {gone:#?}, new {new:#?}");
}

async fn run(lab: &TestLab, one: &scenario::Scenario, run: &str, sabotage: bool) -> RunResult {
    let deaf = Deaf::default();
    let real = twin::cli::drivers("qemu:///system");
    let hears = Arc::clone(&deaf);
    let decide: Decide = Arc::new(move |_| {
        let deaf = hears.load(Ordering::SeqCst);
        if deaf { Fate::Pretended } else { Fate::Done }
    });
    let drivers = Drivers {
        guardian: Arc::new(NoWatchdog),
        ..faulty(real, &decide)
    };
    let layout = Layout::new(lab.state.clone());
    let labs = find_all(&drivers, &layout).await.unwrap();
    let found = labs
        .into_iter()
        .find(|found| found.record.name.as_str() == lab.name)
        .unwrap();
    let journal = Journal::open(&lab.state, &drivers.clock).unwrap();
    let world = World {
        drivers,
        layout,
        found,
        seed: Seed(1),
        run: format!("{}-{run}", lab.name),
        lock: None,
    };
    let watch = WhileActing { sabotage, deaf };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    scenario::run(one, &Choice::default(), &world, &journal, &watch, interrupt)
        .await
        .unwrap()
}

#[test]
fn every_action_takes_effect_and_is_put_back_and_never_passes_without() {
    let _turn = turns::alone();
    let mut covered: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    covered.dedup();
    assert_eq!(covered, scenario::fault::names());
    let lab = TestLab::new();
    lab.done(&["up", "tiny", "--wait", "services"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    mark_disks(&lab);
    let before = picture(&lab);
    let wanted = std::env::var("TWIN_ACTIONS").ok();
    for (index, (action, arguments)) in ACTIONS.iter().enumerate() {
        // Every seventh in CI; or those that are named, for whoever adds one.
        let chosen = match &wanted {
            Some(names) => names.split(',').any(|name| name == *action),
            None => full() || index % 7 == 0,
        };
        if !chosen {
            continue;
        }
        let one = scenario_of(action, arguments);
        let what = format!("{action} {arguments}");
        let told = clocks(&lab);
        let document = runtime.block_on(run(&lab, &one, &format!("{index}"), false));
        assert_eq!(document.verdict, Verdict::Pass, "{what}: {document:#?}");
        same(&before, &picture(&lab), &what);
        same_clocks(&told, &clocks(&lab), &what);
        let document = runtime.block_on(run(&lab, &one, &format!("{index}s"), true));
        let outcome = document.worlds[0].variants[0].outcome;
        assert_eq!(outcome, Outcome::Inconclusive, "{what}: {document:#?}");
        same(&before, &picture(&lab), &format!("{what}, sabotaged"));
    }
    a_fault_is_lifted_in_time_though_twin_hangs(&lab);
    same(&before, &picture(&lab), "after a hang");
}

/// Whether netem is on a's first interface.
fn is_slow(lab: &TestLab) -> bool {
    let shown = lab.done(&["exec", "a", "--", "tc", "qdisc", "show", "dev", "eth0"]);
    shown.contains("netem")
}

/// Whoever stands by puts a fault back whose time is over, where the twin that made it stands still.
fn a_fault_is_lifted_in_time_though_twin_hangs(lab: &TestLab) {
    const LASTS: Duration = Duration::from_secs(4);
    let directory = qemu_directory("hang");
    let file = directory.path().join("hang.yaml");
    let text = format!(
        "schema: twin/scenario/v1\nname: hang\ntitle: A fault for a time\nvariants: {{only: {{expect: {{}}}}}}\n\
         safety: {{baseline: none}}\nprobes: []\nsteps:\n\
         - {{id: slow, do: {{net-emulate: {{host: a, nic: eth0, delay: 50ms}}}}, for: {}s, within: 30s}}\n\
         - {{id: calm, pause: 5m}}\nrecover: {{services: healthy, instances: as-before, within: 2m}}\n",
        LASTS.as_secs()
    );
    std::fs::write(&file, text).unwrap();
    let mut child = lab.spawn(&["scenario", &file.display().to_string()]);
    // Its next step: the fault is there, and twin talks to no guest.
    let told = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let calm = told
        .map_while(Result::ok)
        .any(|line| line.contains("let 300s pass"));
    assert!(calm && is_slow(lab));
    let seen = std::time::Instant::now();
    let pid = child.id().to_string();
    tool("kill", &["-STOP", &pid]);
    wait_for("its end", LASTS + Duration::from_secs(15), || {
        (!is_slow(lab)).then_some(())
    });
    let took = seen.elapsed();
    println!("dead-man: a fault of {LASTS:?} lifted {took:?} after it was seen, twin stopped");
    tool("kill", &["-CONT", &pid]);
    tool("kill", &["-INT", &pid]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(took < LASTS + Duration::from_secs(5), "{took:?}");
    assert_eq!(lab.json(&["status"])["dirty"], false);
}
