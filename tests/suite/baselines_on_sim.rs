//! Baselines on the simulated drivers: power states through create and restore, and what is refused.

use std::path::Path;

use tokio::sync::watch;
use twin::hypervisor::{Power, PowerAction};
use twin::journal::Journal;
use twin::lab::{Drivers, Found, Layout, Silent, choose, find_all};
use twin::sim::{Sabotage, SimWorld};
use twin::snapshot::{self, Request, Rung, Set, SnapshotError};
use twin::units::Seed;

use crate::lab_on_sim::{TOPOLOGY, up};
use crate::support::unless_it_dies;

struct Bench {
    world: SimWorld,
    drivers: Drivers,
    layout: Layout,
    journal: Journal,
    interrupt: (watch::Sender<bool>, watch::Receiver<bool>),
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let world = SimWorld::new(Seed(5));
        let drivers = world.drivers();
        let (layout, journal, _) = up(TOPOLOGY, &drivers, directory.path()).await;
        Self {
            world,
            drivers,
            layout,
            journal,
            interrupt: watch::channel(false),
            _directory: directory,
        }
    }

    /// The same lab in the hands of another process.
    fn reborn(mut self) -> Self {
        self.journal = Journal::open(self.layout.state(), &self.drivers.clock).unwrap();
        self
    }

    async fn found(&self) -> Found {
        let labs = find_all(&self.drivers, &self.layout).await.unwrap();
        choose(labs, None).unwrap()
    }

    fn set<'s>(&'s self, found: &'s Found) -> Set<'s> {
        Set {
            found,
            drivers: &self.drivers,
            layout: &self.layout,
            journal: &self.journal,
            watch: &Silent,
            lock: None,
        }
    }

    async fn create(&self, request: Request) -> Result<snapshot::Created, SnapshotError> {
        let found = self.found().await;
        snapshot::create(self.set(&found), &request, None, &self.interrupt.1).await
    }

    async fn restore(&self, name: &str) -> Result<snapshot::Restored, SnapshotError> {
        let found = self.found().await;
        snapshot::restore(
            self.set(&found),
            name,
            snapshot::Options::default(),
            &self.interrupt.1,
        )
        .await
    }

    async fn power(&self, host: &str, action: PowerAction) {
        let found = self.found().await;
        let target = found.host(host).unwrap().target(found.record.uuid);
        self.drivers
            .hypervisor
            .domain
            .power(target, action)
            .await
            .unwrap();
    }

    async fn powers(&self) -> Vec<Power> {
        let found = self.found().await;
        found.hosts.iter().map(|host| host.domain.power).collect()
    }
}

fn named(name: &str) -> Request {
    Request {
        name: name.into(),
        ..Request::default()
    }
}

#[tokio::test(start_paused = true)]
async fn each_power_state_comes_back_from_each_other_one() {
    let bench = Bench::new().await;
    let states = [
        Power::Running,
        Power::Paused,
        Power::ShutOff,
        Power::Crashed,
    ];
    let reach = async |host: &str, state: Power| {
        let actions: &[PowerAction] = match state {
            Power::Running => &[PowerAction::Start],
            Power::Paused => &[PowerAction::Start, PowerAction::Suspend],
            Power::ShutOff => &[],
            Power::Crashed => &[PowerAction::Start, PowerAction::Suspend],
        };
        for action in [PowerAction::Destroy].iter().chain(actions) {
            bench.power(host, *action).await;
        }
        if state == Power::Crashed {
            let found = bench.found().await;
            let target = found.host(host).unwrap().target(found.record.uuid);
            bench
                .drivers
                .hypervisor
                .capture
                .mark_crashed(target)
                .await
                .unwrap();
        }
    };
    for (index, cut) in states.into_iter().enumerate() {
        reach("b", cut).await;
        let before = bench.powers().await;
        let name = format!("cut-{index}");
        bench.create(named(&name)).await.unwrap();
        assert_eq!(bench.powers().await, before, "creating changes nothing");
        for later in states {
            reach("b", later).await;
            let restored = bench.restore(&name).await.unwrap();
            assert_eq!(bench.powers().await, before, "{cut:?} from {later:?}");
            assert_eq!(restored.hosts[1].power, cut);
        }
        reach("b", Power::Running).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_gates_modes_and_damage_are_refused_before_anything_stops() {
    let bench = Bench::new().await;
    bench.create(named("one")).await.unwrap();
    assert!(matches!(
        bench.create(named("one")).await,
        Err(SnapshotError::Exists { .. })
    ));
    let gated = Request {
        gates: vec!["services-healthy".into(), "no-dirty-run".into()],
        dirty: vec!["fill of run 1 is not put back".into()],
        ..named("two")
    };
    assert!(matches!(
        bench.create(gated).await,
        Err(SnapshotError::Gates { .. })
    ));
    let forced = Request {
        mode: Some(Rung::Reflink),
        ..named("two")
    };
    assert!(matches!(
        bench.create(forced).await,
        Err(SnapshotError::Mode { .. })
    ));
    assert!(matches!(
        bench.restore("none").await,
        Err(SnapshotError::Unknown { .. })
    ));
    let found = bench.found().await;
    let file = bench
        .layout
        .baselines(found.record.uuid)
        .join("one/manifest.json");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("\"simlab\"", "\"simlib\"");
    std::fs::write(&file, text).unwrap();
    assert!(matches!(
        bench.restore("one").await,
        Err(SnapshotError::Damaged { .. })
    ));
    assert_eq!(bench.powers().await, [Power::Running; 3]);
    assert!(
        snapshot::unfinished(&bench.journal, found.record.uuid)
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_leaves_nothing() {
    let bench = Bench::new().await;
    bench.interrupt.0.send(true).unwrap();
    assert!(matches!(
        bench.create(named("one")).await,
        Err(SnapshotError::Interrupted { .. })
    ));
    let found = bench.found().await;
    let directory = bench.layout.baselines(found.record.uuid);
    assert_eq!(entries(&directory), 0);
    assert_eq!(bench.powers().await, [Power::Running; 3]);
    drop(bench.world);
}

#[tokio::test(start_paused = true)]
async fn d3_a_stand_still_for_a_baseline_has_a_deadline() {
    let bench = Bench::new().await;
    bench.world.sabotage(Sabotage::Capture);
    let from = tokio::time::Instant::now();
    let refused = bench.create(named("one")).await;
    let stood = from.elapsed();
    let Err(SnapshotError::PutBack { why, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("stood still"), "{why}");
    assert!((60..300).contains(&stood.as_secs()), "{stood:?}");
    let found = bench.found().await;
    assert_eq!(entries(&bench.layout.baselines(found.record.uuid)), 0);
    assert_eq!(bench.powers().await, [Power::Running; 3]);
}

#[tokio::test(start_paused = true)]
async fn another_restore_takes_the_place_of_one_that_was_broken_off() {
    let bench = Bench::new().await;
    for name in ["one", "two"] {
        bench.create(named(name)).await.unwrap();
    }
    let lab = bench.found().await.record.uuid;
    // Dies once it has begun.
    bench.journal.die_at(3);
    assert!(unless_it_dies(bench.restore("one")).await.is_none());
    let bench = bench.reborn();
    let unfinished = snapshot::unfinished(&bench.journal, lab).unwrap();
    assert_eq!(
        unfinished,
        ["restore one was not finished: finishing it puts all hosts back to one as it was taken"]
    );
    assert!(
        snapshot::unfinished_but_restores(&bench.journal, lab)
            .unwrap()
            .is_empty()
    );
    bench.restore("two").await.unwrap();
    assert!(
        snapshot::unfinished(&bench.journal, lab)
            .unwrap()
            .is_empty()
    );
    assert_eq!(bench.powers().await, [Power::Running; 3]);
}

/// A journal that fails once as an operation ends is asked again; one that goes on failing makes the lab DIRTY, and what the
/// operation did stays.
#[tokio::test(start_paused = true)]
async fn d2_an_operation_whose_entry_in_the_journal_cannot_be_closed_is_done_and_the_lab_is_dirty()
{
    let bench = Bench::new().await;
    let file = bench.layout.state().join("journal.sqlite");
    let fails = |times: u32| {
        let journal = rusqlite::Connection::open(&file).unwrap();
        let trigger = format!(
            "DROP TRIGGER IF EXISTS fails; DROP TABLE IF EXISTS failures; CREATE TABLE failures (n);
             CREATE TRIGGER fails BEFORE UPDATE OF ended_at ON operations
             WHEN (SELECT count(*) FROM failures) < {times}
             BEGIN INSERT INTO failures VALUES (1); SELECT RAISE(FAIL, 'no space'); END"
        );
        journal.execute_batch(&trigger).unwrap();
    };
    let found = bench.found().await;
    let unfinished = || snapshot::unfinished(&bench.journal, found.record.uuid).unwrap();
    // FAIL keeps what the trigger wrote: one that fails once is asked again.
    fails(1);
    bench.create(named("one")).await.unwrap();
    assert_eq!(unfinished(), Vec::<String>::new());
    // One that never takes it: each verb has its effect, and says that the lab is DIRTY and why.
    fails(u32::MAX);
    let dirty = |outcome: Result<(), SnapshotError>, words: &str| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, SnapshotError::Dirty { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("no space") && said.contains(words), "{said}");
    };
    dirty(
        bench.create(named("two")).await.map(drop),
        "all of it is done",
    );
    // `recover` would restore again, over all that was done since: that has to be known.
    dirty(
        bench.restore("two").await.map(drop),
        "what is done until then is lost",
    );
    dirty(
        snapshot::remove(bench.set(&found), "one").await,
        "all of it is done",
    );
    assert_eq!(unfinished().len(), 3);
    fails(0);
    let finished = snapshot::recover(bench.set(&found)).await.unwrap();
    assert_eq!(finished.left, Vec::<String>::new());
    assert_eq!(unfinished(), Vec::<String>::new());
    let listed = snapshot::list(&bench.layout, found.record.uuid).unwrap();
    let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["two"]);
}

/// What finishes an operation was written by a twin that this one does not understand, say.
#[tokio::test(start_paused = true)]
async fn an_operation_whose_plan_cannot_be_read_is_left_and_said_to_be() {
    let bench = Bench::new().await;
    let found = bench.found().await;
    let lab = found.record.uuid;
    bench.journal.begin(lab, "restore", "{\"of\": 7}").unwrap();
    let told = snapshot::unfinished(&bench.journal, lab).unwrap();
    assert!(told[0].contains("restore was not finished") && told[0].contains("cannot be read"));
    let finished = snapshot::recover(bench.set(&found)).await.unwrap();
    assert_eq!(finished.left, told);
    assert_eq!(snapshot::unfinished(&bench.journal, lab).unwrap(), told);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_dies_anywhere_is_finished_or_was_never_begun() {
    let mut deaths = 0;
    for point in 1.. {
        let bench = Bench::new().await;
        bench.create(named("one")).await.unwrap();
        bench.create(named("two")).await.unwrap();
        bench.journal.die_at(point);
        let found = bench.found().await;
        let removed = unless_it_dies(snapshot::remove(bench.set(&found), "one")).await;
        let died = removed.map(Result::unwrap).is_none();
        let bench = bench.reborn();
        let set = bench.set(&found);
        let begun = !snapshot::unfinished(&bench.journal, set.found.record.uuid)
            .unwrap()
            .is_empty();
        let finished = snapshot::recover(set).await.unwrap();
        assert_eq!(finished.left, Vec::<String>::new(), "point {point}");
        let left = snapshot::names(&bench.layout, found.record.uuid).unwrap();
        // Dead before it was begun, or once it was done.
        let untouched = died && !begun && left == ["one", "two"];
        assert!(untouched || left == ["two"], "point {point}: {left:?}");
        let directory = bench.layout.baselines(found.record.uuid);
        assert_eq!(entries(&directory), left.len(), "point {point}");
        bench.restore("two").await.unwrap();
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths >= 4, "{deaths}");
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}
