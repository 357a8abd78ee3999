//! What the drivers of the other seams have to do: clock, guest and this machine's network.

use std::net::Ipv4Addr;
use std::time::Duration;

use twin::clock::Clock;
use twin::guest::{Guest, GuestError, collect};
use twin::hostnet::{
    Bandwidth, Connection, Cut, Firewall, Forbidden, HostNet, HostNetError, Links, Side,
};
use twin::units::Mac;
use twin::wire::{Request, VmState};

/// A guest of the test's own answers within this, and does what it is asked.
const DEADLINE: Duration = Duration::from_secs(60);

/// Time goes on, on the wall and by the watch, and a wait takes as long as it was asked to.
pub(crate) async fn a_clock_keeps_the_contract(clock: &dyn Clock) {
    const WAIT: Duration = Duration::from_millis(30);
    let (elapsed, now) = (clock.elapsed(), clock.now());
    clock.sleep(WAIT).await;
    let took = clock.elapsed().saturating_sub(elapsed);
    assert!(took >= WAIT && took < WAIT * 100, "{took:?}");
    let wall = Duration::try_from(clock.now().duration_since(now)).expect("it goes forward");
    assert!(
        wall.abs_diff(took) < WAIT,
        "{wall:?} on the wall, {took:?} by the watch"
    );
}

/// A guest that runs answers, runs programs, and keeps the records of its instance `vm`.
pub(crate) async fn a_guest_keeps_the_contract(
    guest: &dyn Guest,
    clock: &dyn Clock,
    hostname: &str,
    vm: &str,
) {
    let greeting = guest.greet(DEADLINE).await.expect("it answers");
    assert_eq!(greeting.hostname, hostname);
    assert_eq!(greeting.problems, Vec::<String>::new());
    assert!(!greeting.boot_id.is_empty());
    for (program, exit) in [("true", 0), ("false", 1)] {
        let (code, _, _) = collect(guest, &[program], DEADLINE).await.expect("it ran");
        assert_eq!(code, exit, "{program}");
    }
    let (_, said, _) = collect(guest, &["uname", "-r"], DEADLINE)
        .await
        .expect("it ran");
    assert!(!said.is_empty());
    let (_, said, _) = collect(guest, &["cat", "/proc/vmstat"], DEADLINE)
        .await
        .expect("it ran");
    assert!(String::from_utf8_lossy(&said).contains("oom_kill 0"));

    let state = async || {
        let state = guest.state().await.expect("it tells");
        let found = state.instances.into_iter().find(|found| found.name == vm);
        found.expect("its instance")
    };
    assert_eq!(state().await.vm_state, VmState::Active);
    let name = vm.to_owned();
    let stop = Request::InstanceStop { name: name.clone() };
    guest.ask(stop.clone()).await.expect("it stops");
    let stopped = state().await;
    assert_eq!(
        (stopped.vm_state, stopped.process),
        (VmState::Stopped, None)
    );
    // Again is as good.
    guest.ask(stop).await.expect("it is stopped");
    guest
        .ask(Request::InstanceStart { name })
        .await
        .expect("it starts");
    let started = state().await;
    assert_eq!(started.vm_state, VmState::Active);
    assert!(
        started
            .process
            .is_some_and(|process| process.oom_score_adj == 0)
    );
    let unknown = Request::InstanceStart {
        name: "nobody".into(),
    };
    let refused = guest.ask(unknown).await.expect_err("there is none");
    assert!(matches!(refused, GuestError::Refused { .. }), "{refused}");

    let reading = guest.clock(clock).await.expect("it tells the time");
    let beyond = i64::try_from(reading.round_trip.as_micros()).expect("short") + 5_000_000;
    assert!(reading.behind_us.abs() < beyond, "{reading:?}");
}

/// A guest that does not run says so within the deadline.
pub(crate) async fn a_silent_guest_is_told_in_time(guest: &dyn Guest, clock: &dyn Clock) {
    const SHORT: Duration = Duration::from_secs(2);
    let from = clock.elapsed();
    let silent = guest.greet(SHORT).await.expect_err("it does not run");
    assert!(
        matches!(
            silent,
            GuestError::Deadline { .. } | GuestError::Unreachable { .. }
        ),
        "{silent}"
    );
    assert!(clock.elapsed().saturating_sub(from) < SHORT * 3);
}

/// The table of these tests.
const TABLE: &str = "twin_conformance";

/// Marks, tables, cuts and connections. `link` is the test's own; something listens at `open` and nothing at `closed`.
pub(crate) async fn a_network_keeps_the_contract(
    net: &HostNet,
    link: &str,
    open: (Ipv4Addr, u16),
    closed: (Ipv4Addr, u16),
) {
    let reach = &net.reach;
    links_keep_the_contract(net.links.as_ref(), link).await;
    a_firewall_keeps_the_contract(net.firewall.as_ref(), link).await;
    let (address, port) = open;
    assert_eq!(
        reach.connect(address, port, DEADLINE).await,
        Connection::Open
    );
    let (address, port) = closed;
    assert_eq!(
        reach.connect(address, port, DEADLINE).await,
        Connection::Refused
    );
}

/// Marks, leases and bandwidth.
async fn links_keep_the_contract(links: &dyn Links, link: &str) {
    let alias = async || {
        let found = links.links().await.expect("links");
        found
            .into_iter()
            .find(|found| found.name == link)
            .expect("the link")
            .alias
    };
    links.set_alias(link, "a mark").await.expect("it is marked");
    assert_eq!(alias().await.as_deref(), Some("a mark"));
    let missing = links
        .set_alias("twnowhere0", "a mark")
        .await
        .expect_err("there is none");
    assert!(
        matches!(missing, HostNetError::NotFound { .. }),
        "{missing}"
    );
    assert_eq!(links.leases("twnowhere0").await.expect("read"), []);

    let before = links.bandwidth(link).await.expect("read");
    for kbit in [800, 800, 400] {
        let limit = Bandwidth::Limited { kbit };
        links.set_bandwidth(link, &limit).await.expect("limited");
        assert_eq!(links.bandwidth(link).await.expect("read"), limit);
    }
    for _ in 0..2 {
        links.set_bandwidth(link, &before).await.expect("as before");
        assert_eq!(links.bandwidth(link).await.expect("read"), before);
    }
}

/// Tables, cuts and refusals.
async fn a_firewall_keeps_the_contract(firewall: &dyn Firewall, link: &str) {
    let ours = async || -> Vec<String> {
        let tables = firewall.tables().await.expect("tables").into_iter();
        tables
            .filter(|(_, name)| name == TABLE)
            .map(|(family, _)| family)
            .collect()
    };
    firewall
        .hold(TABLE, &[link.to_owned()])
        .await
        .expect("held");
    assert_eq!(ours().await, ["bridge"]);
    for _ in 0..2 {
        firewall
            .remove_table("bridge", TABLE)
            .await
            .expect("gone is as good");
        assert_eq!(ours().await, Vec::<String>::new());
    }

    let side = |port: &str, last: u8| Side {
        macs: vec![Mac([0x52, 0x54, 0, 0, 0, last])],
        ports: vec![port.to_owned()],
        addresses: vec![Ipv4Addr::new(10, 199, 7, last)],
    };
    let cut = Cut {
        sides: [side(link, 1), side("twnowhere0", 2)],
    };
    for chain in ["one", "two"] {
        firewall.cut(TABLE, chain, &cut).await.expect("cut");
        assert_eq!(
            firewall.dropped(TABLE, chain).await.expect("counted"),
            Some(0)
        );
    }
    firewall.mend(TABLE, "one").await.expect("mended");
    assert_eq!(firewall.dropped(TABLE, "one").await.expect("counted"), None);
    assert_eq!(ours().await.len(), 2, "the other cut's");
    for _ in 0..2 {
        firewall
            .mend(TABLE, "two")
            .await
            .expect("mended is as good");
        assert_eq!(ours().await, Vec::<String>::new());
    }

    let forbidden = Forbidden {
        from: link.to_owned(),
        to: "twnowhere0".into(),
        refused: true,
    };
    firewall
        .forbid(TABLE, "way", &forbidden)
        .await
        .expect("forbidden");
    assert_eq!(
        firewall.dropped(TABLE, "way").await.expect("counted"),
        Some(0)
    );
    assert!(!ours().await.is_empty());
    firewall.mend(TABLE, "way").await.expect("mended");
    assert_eq!(firewall.dropped(TABLE, "way").await.expect("counted"), None);
    assert_eq!(ours().await, Vec::<String>::new());
    assert_eq!(firewall.rejections("twnowhere0").await.expect("read"), []);
}
