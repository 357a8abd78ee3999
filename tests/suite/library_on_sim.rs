//! The incident library on the simulated drivers: each variant as expected, everything as before, also after a death.

use std::path::Path;

use twin::diagnostics::Source;
use twin::journal::Journal;
use twin::lab::{Layout, Silent};
use twin::scenario::{self, Choice, Scenario, World};
use twin::scenario::{RunResult, StepOutcome, Verdict};
use twin::sim::SimWorld;
use twin::snapshot;
use twin::units::Seed;

use crate::lab_on_sim::up;
use crate::support::{is_on_record, quick_directory, root, unless_it_dies};

/// The scenarios whose mechanism the simulated world has.
const WITH_MECHANISM: [&str; 2] = ["host-power-loss", "shutoff-capi-mgmt"];

/// All of them: what they do is put back also where the world has no physics that makes it matter.
fn library() -> Vec<String> {
    let files = std::fs::read_dir(root().join("scenarios"))
        .unwrap()
        .flatten();
    let mut names: Vec<String> = files
        .filter(|file| file.path().extension().is_some_and(|kind| kind == "yaml"))
        .map(|file| {
            file.path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn scenario(name: &str) -> Scenario {
    let path = root().join("scenarios").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap();
    let name = path.display().to_string();
    scenario::parse(&Source { name, text }).unwrap()
}

/// The testcloud on simulated drivers.
async fn testcloud(directory: &Path) -> (SimWorld, World, Journal) {
    let text = std::fs::read_to_string(root().join("topologies/testcloud.yaml")).unwrap();
    // Disks and memory files are not simulated.
    let text = text.replace("disk: 60GiB, swap: 0", "disk: 0MiB, ram: anon, swap: 0");
    let sim = SimWorld::new(Seed(11));
    let drivers = sim.drivers();
    let (_, journal, found) = up(&text, &drivers, directory).await;
    let world = World {
        drivers,
        layout: Layout::new(directory.to_owned()),
        found,
        seed: Seed(1),
        run: "r1".into(),
        lock: None,
    };
    (sim, world, journal)
}

async fn run(world: &World, journal: &Journal, scenario: &Scenario) -> RunResult {
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let ended = scenario::run(scenario, &choice, world, journal, &Silent, interrupt).await;
    let result = ended.unwrap();
    is_on_record(journal, &result);
    result
}

/// What has to be as before, of every host: power, definition, and the guest's state without what differs by itself.
async fn picture(sim: &SimWorld, world: &World) -> Vec<String> {
    let mut picture = sim.picture();
    for domain in world.drivers.hypervisor.inventory.domains().await.unwrap() {
        let lab = world.found.record.uuid;
        let target = twin::hypervisor::Target {
            uuid: domain.uuid,
            lab,
        };
        let autostart = world
            .drivers
            .hypervisor
            .domain
            .autostart(target)
            .await
            .unwrap();
        let mark = domain.mark.unwrap();
        let state = world.state(mark.thing.as_str()).await.unwrap();
        let services = state.services.iter().map(|service| {
            let adj = service
                .process
                .as_ref()
                .map(|process| process.oom_score_adj);
            format!(
                "{} {} {} {adj:?}",
                service.name, service.wanted, service.healthy
            )
        });
        let instances = state.instances.iter().map(|instance| {
            let runs = instance.process.is_some();
            format!(
                "{} {:?} {runs} {}",
                instance.name, instance.vm_state, instance.flavor_mib
            )
        });
        picture.push(format!(
            "{} {autostart} {:?} {} {:?} {:?} {:?} {:?}",
            domain.name,
            domain.power,
            mark.spec,
            state.reserved_mib,
            state.resume,
            services.collect::<Vec<_>>(),
            instances.collect::<Vec<_>>()
        ));
    }
    picture.sort();
    picture
}

#[tokio::test(start_paused = true)]
async fn a_death_at_any_write_is_recovered_from() {
    for name in library() {
        let scenario = scenario(&name);
        for variant in &scenario.variants {
            let choice = Choice {
                variants: vec![variant.name.clone()],
                ..Choice::default()
            };
            let mut deaths = 0;
            let full = std::env::var("TWIN_LIVE").is_ok_and(|size| size == "full");
            for point in (1..).step_by(if full { 1 } else { 13 }) {
                let directory = quick_directory();
                let (sim, world, journal) = testcloud(directory.path()).await;
                let before = picture(&sim, &world).await;
                journal.die_at(point);
                let (_keep, interrupt) = tokio::sync::watch::channel(false);
                let running =
                    scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt);
                if let Some(ended) = unless_it_dies(Box::pin(running)).await {
                    let document = ended.unwrap();
                    let steps = &document.worlds[0].variants[0].steps;
                    let not = [
                        StepOutcome::Failed,
                        StepOutcome::NoEffect,
                        StepOutcome::Left,
                    ];
                    let wrong = steps.iter().find(|step| not.contains(&step.result));
                    assert!(wrong.is_none(), "{name} {}: {wrong:?}", variant.name);
                    break;
                }
                deaths += 1;
                let journal = Journal::open(directory.path(), &world.drivers.clock).unwrap();
                let set = snapshot::Set {
                    found: &world.found,
                    drivers: &world.drivers,
                    layout: &world.layout,
                    journal: &journal,
                    watch: &Silent,
                    lock: None,
                };
                let finished = snapshot::recover(set).await.unwrap();
                assert_eq!(finished.left, Vec::<String>::new());
                let recovered = scenario::recover(&world, &journal).await.unwrap();
                let at = format!("{name} {} at {point}: {recovered:?}", variant.name);
                assert!(recovered.iter().all(|run| run.left.is_empty()), "{at}");
                assert_eq!(picture(&sim, &world).await, before, "{at}");
                let lab = world.found.record.uuid;
                assert_eq!(journal.open_acts(lab).unwrap(), [], "{at}");
                let again = scenario::recover(&world, &journal).await.unwrap();
                assert_eq!(again, [], "{at}");
            }
            assert!(deaths > 0, "{name} {}: no death", variant.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_variant_goes_as_expected_and_everything_is_put_back() {
    for name in WITH_MECHANISM {
        let directory = quick_directory();
        let (_, world, journal) = testcloud(directory.path()).await;
        let document = run(&world, &journal, &scenario(name)).await;
        assert_eq!(document.verdict, Verdict::Pass, "{name}: {document:#?}");
        assert_eq!(journal.open_acts(world.found.record.uuid).unwrap(), []);
    }
}

/// The control of the rebuild passes through power that is off, which may be seen or not, and forgets nothing.
#[tokio::test(start_paused = true)]
async fn the_control_of_the_rebuild_goes_as_expected() {
    let directory = quick_directory();
    let (_, world, journal) = testcloud(directory.path()).await;
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice {
        variants: vec!["control".into()],
        ..Choice::default()
    };
    let scenario = scenario("rebuild");
    let ended = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
    let document = ended.unwrap();
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
}

/// A variant whose cure is made none.
#[tokio::test(start_paused = true)]
async fn a_fix_that_does_not_fix_fails() {
    for (name, variant) in [
        ("host-power-loss", "resume"),
        ("shutoff-capi-mgmt", "before-on"),
    ] {
        let directory = quick_directory();
        let (_, world, journal) = testcloud(directory.path()).await;
        let (_keep, interrupt) = tokio::sync::watch::channel(false);
        let choice = Choice {
            variants: vec![variant.to_owned()],
            set: [("resume".to_owned(), "off".to_owned())].into(),
            ..Choice::default()
        };
        let scenario = scenario(name);
        let ended = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
        let document = ended.unwrap();
        assert_eq!(document.verdict, Verdict::Fail, "{name}: {document:#?}");
    }
}
