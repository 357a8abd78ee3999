//! Every action in a real lab: it takes effect and is put back; made ineffective, it never passes.

use std::io::BufRead;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use twin::clock::Clock;
use twin::diagnostics::Source;
use twin::guest::{ClockReading, Greeting, Guest, GuestError, Program};
use twin::hostnet::{
    Answer, Bandwidth, Connection, Cut, Forbidden, HostNet, HostNetError, Link, Network,
    PacketCapture, Rejection, Route,
};
use twin::hypervisor::{
    Anatomy, Capture, DiskState, FilesOf, Hypervisor, HypervisorError, Machine, Memory, NicState,
    ObservedDomain, ObservedNetwork, Power, PowerAction, Target, Throttle,
};
use twin::journal::Journal;
use twin::lab::{Drivers, Event, GuestWays, Layout, NoWatchdog, Watch, Way, find_all};
use twin::model::spec::{DomainSpec, Marked, NetworkSpec, NicSpec};
use twin::scenario::{self, Choice, Outcome, RunEvent, RunResult, RunWatch, Verdict, World};
use twin::units::{Cidr, Mac, Mib, Seed};
use twin::wire::{GuestState, KernelLine, Request};

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
    ("service-run", "{host: a, services: none}"),
    ("service-stop", "{host: b, service: apache2}"),
];

/// While this is set, calls that would change something are taken and do nothing.
type Deaf = Arc<AtomicBool>;

struct DeafWays(Arc<dyn GuestWays>, Deaf);

impl GuestWays for DeafWays {
    fn open(&self, way: &Way) -> Arc<dyn Guest> {
        Arc::new(DeafGuest(self.0.open(way), Arc::clone(&self.1)))
    }
}

struct DeafGuest(Arc<dyn Guest>, Deaf);

#[async_trait]
impl Guest for DeafGuest {
    async fn greet(&self, deadline: Duration) -> Result<Greeting, GuestError> {
        self.0.greet(deadline).await
    }

    async fn run(&self, program: Program) -> Result<i32, GuestError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(0);
        }
        self.0.run(program).await
    }

    async fn state(&self) -> Result<GuestState, GuestError> {
        self.0.state().await
    }

    async fn ask(&self, request: Request) -> Result<(), GuestError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.ask(request).await
    }

    async fn kernel_log(&self, after: u64) -> Result<Vec<KernelLine>, GuestError> {
        self.0.kernel_log(after).await
    }

    async fn clock(&self, here: &dyn Clock) -> Result<ClockReading, GuestError> {
        self.0.clock(here).await
    }

    async fn set_clock(&self, here: &dyn Clock) -> Result<(), GuestError> {
        self.0.set_clock(here).await
    }
}

struct DeafHypervisor(Arc<dyn Hypervisor>, Deaf);

#[async_trait]
impl Capture for DeafHypervisor {
    async fn anatomy(&self, target: Target) -> Result<Anatomy, HypervisorError> {
        self.0.anatomy(target).await
    }

    async fn emulator(&self, definition: &str) -> Result<String, HypervisorError> {
        self.0.emulator(definition).await
    }

    async fn start_paused(&self, target: Target) -> Result<(), HypervisorError> {
        self.0.start_paused(target).await
    }

    async fn redefine(&self, target: Target, definition: &str) -> Result<(), HypervisorError> {
        self.0.redefine(target, definition).await
    }

    async fn write_back(&self, target: Target) -> Result<(), HypervisorError> {
        self.0.write_back(target).await
    }

    async fn split_folios(&self, target: Target, file: &Path) -> Result<(), HypervisorError> {
        self.0.split_folios(target, file).await
    }

    async fn capture(
        &self,
        target: Target,
        state: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError> {
        self.0.capture(target, state, memory).await
    }

    async fn load(
        &self,
        target: Target,
        state: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError> {
        self.0.load(target, state, memory).await
    }

    async fn mark_crashed(&self, target: Target) -> Result<(), HypervisorError> {
        self.0.mark_crashed(target).await
    }

    async fn discard(&self, target: Target, state: &str) -> Result<(), HypervisorError> {
        self.0.discard(target, state).await
    }

    async fn examine(
        &self,
        disks: &[PathBuf],
        state: &str,
        content: bool,
    ) -> Result<Vec<Result<DiskState, String>>, HypervisorError> {
        self.0.examine(disks, state, content).await
    }
}

#[async_trait]
impl Hypervisor for DeafHypervisor {
    async fn machine(&self) -> Result<Machine, HypervisorError> {
        self.0.machine().await
    }

    async fn networks(&self) -> Result<Vec<ObservedNetwork>, HypervisorError> {
        self.0.networks().await
    }

    async fn define_network(&self, network: &Marked<NetworkSpec>) -> Result<(), HypervisorError> {
        self.0.define_network(network).await
    }

    async fn start_network(&self, target: Target) -> Result<(), HypervisorError> {
        self.0.start_network(target).await
    }

    async fn remove_network(&self, target: Target) -> Result<(), HypervisorError> {
        self.0.remove_network(target).await
    }

    async fn files(&self) -> Result<Vec<FilesOf>, HypervisorError> {
        self.0.files().await
    }

    async fn domains(&self) -> Result<Vec<ObservedDomain>, HypervisorError> {
        self.0.domains().await
    }

    async fn define_domain(&self, domain: &Marked<DomainSpec>) -> Result<(), HypervisorError> {
        self.0.define_domain(domain).await
    }

    async fn power(&self, target: Target, action: PowerAction) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.power(target, action).await
    }

    async fn power_state(&self, target: Target) -> Result<Power, HypervisorError> {
        self.0.power_state(target).await
    }

    async fn autostart(&self, target: Target) -> Result<bool, HypervisorError> {
        self.0.autostart(target).await
    }

    async fn set_autostart(&self, target: Target, autostart: bool) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.set_autostart(target, autostart).await
    }

    async fn balloon(&self, target: Target) -> Result<Mib, HypervisorError> {
        self.0.balloon(target).await
    }

    async fn set_balloon(&self, target: Target, memory: Mib) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.set_balloon(target, memory).await
    }

    async fn throttle(&self, target: Target) -> Result<Throttle, HypervisorError> {
        self.0.throttle(target).await
    }

    async fn set_throttle(
        &self,
        target: Target,
        throttle: Throttle,
    ) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.set_throttle(target, throttle).await
    }

    async fn nic(&self, target: Target, mac: Mac) -> Result<NicState, HypervisorError> {
        self.0.nic(target, mac).await
    }

    async fn set_nic(
        &self,
        target: Target,
        mac: Mac,
        state: NicState,
    ) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.set_nic(target, mac, state).await
    }

    async fn attach_nic(&self, target: Target, nic: &NicSpec) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.attach_nic(target, nic).await
    }

    async fn detach_nic(&self, target: Target, mac: Mac) -> Result<(), HypervisorError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.detach_nic(target, mac).await
    }

    async fn remove_domain(&self, target: Target) -> Result<(), HypervisorError> {
        self.0.remove_domain(target).await
    }

    async fn console(&self, target: Target) -> Result<PathBuf, HypervisorError> {
        self.0.console(target).await
    }

    async fn agent(
        &self,
        target: Target,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HypervisorError> {
        self.0.agent(target, command, deadline).await
    }
}

struct DeafNet(Arc<dyn HostNet>, Deaf);

#[async_trait]
impl HostNet for DeafNet {
    async fn links(&self) -> Result<Vec<Link>, HostNetError> {
        self.0.links().await
    }

    async fn routes(&self) -> Result<Vec<Route>, HostNetError> {
        self.0.routes().await
    }

    async fn set_alias(&self, link: &str, alias: &str) -> Result<(), HostNetError> {
        self.0.set_alias(link, alias).await
    }

    async fn leases(&self, bridge: &str) -> Result<Vec<(Mac, Ipv4Addr)>, HostNetError> {
        self.0.leases(bridge).await
    }

    async fn tables(&self) -> Result<Vec<(String, String)>, HostNetError> {
        self.0.tables().await
    }

    async fn hold(&self, table: &str, ports: &[String]) -> Result<(), HostNetError> {
        self.0.hold(table, ports).await
    }

    async fn forget_peers(&self, bridges: &[(String, Cidr)]) -> Result<(), HostNetError> {
        self.0.forget_peers(bridges).await
    }

    async fn clear_leftover(&self, network: &Network) -> Result<bool, HostNetError> {
        self.0.clear_leftover(network).await
    }

    async fn cut(&self, table: &str, chain: &str, cut: &Cut) -> Result<(), HostNetError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.cut(table, chain, cut).await
    }

    async fn forbid(
        &self,
        table: &str,
        chain: &str,
        forbidden: &Forbidden,
    ) -> Result<(), HostNetError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.forbid(table, chain, forbidden).await
    }

    async fn rejections(&self, bridge: &str) -> Result<Vec<Rejection>, HostNetError> {
        self.0.rejections(bridge).await
    }

    async fn dropped(&self, table: &str, chain: &str) -> Result<Option<u64>, HostNetError> {
        self.0.dropped(table, chain).await
    }

    async fn mend(&self, table: &str, chain: &str) -> Result<(), HostNetError> {
        self.0.mend(table, chain).await
    }

    async fn bandwidth(&self, link: &str) -> Result<Bandwidth, HostNetError> {
        self.0.bandwidth(link).await
    }

    async fn set_bandwidth(&self, link: &str, bandwidth: &Bandwidth) -> Result<(), HostNetError> {
        if self.1.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.set_bandwidth(link, bandwidth).await
    }

    async fn connect(&self, address: Ipv4Addr, port: u16, within: Duration) -> Connection {
        self.0.connect(address, port, within).await
    }

    async fn get(
        &self,
        address: Ipv4Addr,
        port: u16,
        path: &str,
        within: Duration,
    ) -> Result<Result<Answer, Connection>, HostNetError> {
        self.0.get(address, port, path, within).await
    }

    async fn capture(
        &self,
        link: &str,
        filter: &str,
    ) -> Result<Box<dyn PacketCapture>, HostNetError> {
        self.0.capture(link, filter).await
    }

    async fn remove_table(&self, family: &str, name: &str) -> Result<(), HostNetError> {
        self.0.remove_table(family, name).await
    }
}

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
    let drivers = Drivers {
        hypervisor: Arc::new(DeafHypervisor(real.hypervisor, Arc::clone(&deaf))),
        guests: Arc::new(DeafWays(real.guests, Arc::clone(&deaf))),
        hostnet: Arc::new(DeafNet(real.hostnet, Arc::clone(&deaf))),
        guardian: Arc::new(NoWatchdog),
        ..real
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
