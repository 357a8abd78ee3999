//! What CONTRIBUTING.md shows is true.

use twin::diagnostics::Source;
use twin::lab::{Layout, Silent};
use twin::scenario::Verdict;
use twin::scenario::{self, Choice, World};
use twin::sim::SimWorld;
use twin::units::Seed;

use crate::lab_on_sim::up;
use crate::support::root;

/// The block of a language.
fn block(language: &str) -> String {
    let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let start = format!("```{language}\n");
    let (_, rest) = text.split_once(&start).unwrap();
    rest.split_once("```\n").unwrap().0.to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_example_of_a_scenario_runs() {
    let source = Source {
        name: "no-room.yaml".into(),
        text: block("yaml"),
    };
    let scenario = scenario::parse(&source).unwrap_or_else(|problems| panic!("{problems:?}"));
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("topologies/tiny.yaml")).unwrap();
    // Disks and memory files are not simulated.
    let text = text.replace("disk: 2GiB", "disk: 0MiB, ram: anon");
    let drivers = SimWorld::new(Seed(3)).drivers();
    let (_, journal, found) = up(&text, &drivers, directory.path()).await;
    let world = World {
        drivers,
        layout: Layout::new(directory.path().to_owned()),
        found,
        seed: Seed(1),
        run: "r1".into(),
        lock: None,
    };
    let (_keep, interrupt) = tokio::sync::watch::channel(false);
    let choice = Choice::default();
    let ended = scenario::run(&scenario, &choice, &world, &journal, &Silent, interrupt).await;
    let document = ended.unwrap();
    assert_eq!(document.verdict, Verdict::Pass, "{document:#?}");
    assert_eq!(document.worlds[0].variants.len(), 2);
}

/// A text with what stands from `start` to the next empty line replaced.
fn with_part(text: &str, start: &str, part: &str) -> String {
    let (before, rest) = text.split_once(start).expect(start);
    let (_, after) = rest.split_once("\n\n").expect("an empty line");
    format!("{before}{}\n\n{after}", part.trim_end())
}

/// `UPDATE_GOLDEN=1` writes the tables anew.
#[test]
fn the_tables_of_faults_and_probes_are_those_that_the_code_has() {
    let file = root().join("scenarios/README.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let [faults, probes] = scenario::reference();
    let whole = with_part(&text, "| fault |", &faults);
    let whole = with_part(&whole, "| probe |", &probes);
    if whole != text && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &whole).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
}

/// `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn the_example_of_a_fault_is_one() {
    let file = root().join("src/scenario/fault/compute/resume.rs");
    let example = std::fs::read_to_string(file).unwrap();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update && block("rust") != example {
        let file = root().join("CONTRIBUTING.md");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(&block("rust"), &example)).unwrap();
    }
    assert_eq!(block("rust"), example);
}
