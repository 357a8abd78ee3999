//! What the journal has of acts, undone on a simulated lab: whatever a document says, the act ends as undone or as left.
#![no_main]

#[path = "../../tests/suite/lab_on_sim.rs"]
#[expect(dead_code, reason = "the suite uses all of it")]
mod lab_on_sim;
#[path = "../../tests/suite/support.rs"]
#[expect(dead_code, reason = "the suite uses all of it")]
mod support;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use twin::journal::{Intent, Journal};
use twin::scenario::{self, World, action};
use twin::sim::SimWorld;
use twin::units::Seed;

struct Rig {
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
    world: World,
    journal: Journal,
    runs: u64,
}

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(Rig::new());
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (world, journal) = runtime.block_on(async {
            let drivers = SimWorld::new(Seed(1)).drivers();
            let (layout, journal, found) =
                lab_on_sim::up(lab_on_sim::TOPOLOGY, &drivers, directory.path()).await;
            let world = World {
                drivers,
                layout,
                found,
                seed: Seed(1),
                run: "fuzz".into(),
                lock: None,
            };
            (world, journal)
        });
        Self {
            runtime,
            _directory: directory,
            world,
            journal,
            runs: 0,
        }
    }
}

fuzz_target!(|input: (u8, &str)| {
    let (which, undo) = input;
    let names = action::names();
    let action = names[usize::from(which) % names.len()];
    // Disks are renamed on this machine where a document says so.
    if action == "host-release" {
        return;
    }
    RIG.with_borrow_mut(|rig| {
        rig.runs += 1;
        if rig.runs % 2000 == 0 {
            *rig = Rig::new();
        }
        let run = format!("r{}", rig.runs);
        let lab = rig.world.found.record.uuid;
        rig.journal.begin_run(&run, (lab, "lab"), "s", 1).expect("begun");
        let intent = Intent {
            run: &run,
            variant: "v",
            step: "s",
            action,
            undo,
            expires: None,
            outside: false,
        };
        rig.journal.intend_act(&intent).expect("written");
        rig.runtime.block_on(async {
            let recovered = scenario::recover(&rig.world, &rig.journal).await.expect("recovered");
            let own = recovered.iter().find(|one| one.run == run).expect("it was open");
            assert_eq!(own.undone.len() + own.left.len(), 1, "{own:?}");
        });
        rig.journal
            .supersede_acts(lab, "", Some(&run), "fuzzed")
            .expect("closed");
    });
});
