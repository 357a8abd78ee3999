//! Captures: every power state through capture and load, and what is refused.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use twin::hypervisor::{Hypervisor, HypervisorError, Memory, Power, PowerAction, Target};
use twin::image::qcow2::Qcow2;
use twin::units::Mib;

/// How a domain is brought into a state, whatever it is in.
async fn bring(hypervisor: &Hypervisor, host: Target, state: Power) {
    let power = async |action| {
        let done = hypervisor.domain.power(host, action).await;
        done.unwrap_or_else(|error| panic!("{action:?} on the way to {state:?}: {error}"));
    };
    match power_of(hypervisor, host).await {
        // What has crashed can only be started anew.
        Power::Crashed => power(PowerAction::Destroy).await,
        Power::Running | Power::Paused if state == Power::ShutOff => {
            power(PowerAction::Destroy).await;
        }
        Power::Running => power(PowerAction::Suspend).await,
        Power::Paused | Power::ShutOff => {}
    }
    if state != Power::ShutOff {
        let started = hypervisor.capture.start_paused(host).await;
        started.expect("started with its CPUs stopped");
    }
    match state {
        Power::Running => power(PowerAction::Resume).await,
        Power::Crashed => hypervisor
            .capture
            .mark_crashed(host)
            .await
            .expect("crashed"),
        Power::Paused | Power::ShutOff => {}
    }
    assert_eq!(power_of(hypervisor, host).await, state, "brought there");
}

async fn power_of(hypervisor: &Hypervisor, host: Target) -> Power {
    hypervisor.domain.power_state(host).await.expect("a state")
}

fn refused(outcome: &Result<(), HypervisorError>, what: &str) {
    assert!(outcome.is_err(), "{what}: {outcome:?}");
}

/// Memory as it is captured of a domain in this state.
const fn memory(state: Power) -> Memory {
    match state {
        Power::ShutOff => Memory::None,
        Power::Running | Power::Paused | Power::Crashed => Memory::Stream,
    }
}

/// Checks all claims about captures; the domain is off afterwards.
pub(super) async fn all(hypervisor: &Hypervisor, host: Target, foreign: Target, disk: &Path) {
    let standing = [Power::Paused, Power::ShutOff, Power::Crashed];
    for from in standing {
        for at in standing {
            through(hypervisor, host, disk, from, at).await;
        }
    }
    writing_back_changes_nothing(hypervisor, host).await;
    running_is_refused(hypervisor, host).await;
    memory_has_to_fit(hypervisor, host).await;
    definitions(hypervisor, host, foreign).await;
    strangers(hypervisor, foreign).await;
    bring(hypervisor, host, Power::ShutOff).await;
}

/// Captures in one state, is in another one, and goes back to the first.
async fn through(hypervisor: &Hypervisor, host: Target, disk: &Path, from: Power, at: Power) {
    let what = format!("from {from:?} by way of {at:?}");
    let state = "conformance";
    bring(hypervisor, host, from).await;
    let captured = hypervisor.capture.capture(host, state, memory(from)).await;
    captured.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(power_of(hypervisor, host).await, from, "{what}: captured");
    let anatomy = hypervisor
        .inspection
        .anatomy(host)
        .await
        .expect("an anatomy");
    assert_eq!(anatomy.power, from, "{what}");
    assert_eq!(anatomy.process, from != Power::ShutOff, "{what}");
    assert_eq!(anatomy.obstacles, Vec::<String>::new(), "{what}");
    holds(hypervisor, disk, state, true, &what).await;

    bring(hypervisor, host, at).await;
    match (from, at) {
        // What goes back to a state with memory needs a process for it.
        (Power::Paused | Power::Crashed, Power::ShutOff) => {
            hypervisor
                .capture
                .start_paused(host)
                .await
                .expect("started");
            hypervisor
                .capture
                .start_paused(host)
                .await
                .expect("as good");
        }
        (Power::ShutOff, Power::Paused | Power::Crashed) => {
            let off = hypervisor.domain.power(host, PowerAction::Destroy).await;
            off.expect("off");
        }
        _ => {}
    }
    let loaded = hypervisor.capture.load(host, state, memory(from)).await;
    loaded.unwrap_or_else(|error| panic!("{what}: {error}"));
    let now = power_of(hypervisor, host).await;
    assert_ne!(now, Power::Running, "{what}: its CPUs stay stopped");
    match from {
        Power::ShutOff => assert_eq!(now, Power::ShutOff, "{what}"),
        Power::Crashed => {
            hypervisor
                .capture
                .mark_crashed(host)
                .await
                .expect("crashed");
            assert_eq!(power_of(hypervisor, host).await, Power::Crashed, "{what}");
        }
        Power::Paused | Power::Running => {
            let resumed = hypervisor.domain.power(host, PowerAction::Resume).await;
            resumed.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(power_of(hypervisor, host).await, Power::Running, "{what}");
        }
    }
    for _ in 0..2 {
        let discarded = hypervisor.capture.discard(host, state).await;
        discarded.unwrap_or_else(|error| panic!("{what}: discarding: {error}"));
    }
    holds(hypervisor, disk, state, false, &what).await;
    bring(hypervisor, host, Power::Paused).await;
    refused(
        &hypervisor.capture.load(host, state, Memory::Stream).await,
        "a state that is gone",
    );
}

/// Whether the disk holds a state, read from outside.
async fn holds(hypervisor: &Hypervisor, disk: &Path, state: &str, there: bool, what: &str) {
    let disks = [PathBuf::from(disk)];
    for content in [false, true] {
        let read = hypervisor.inspection.examine(&disks, state, content).await;
        let read = read.expect("examined");
        assert_eq!(read.len(), 1, "{what}");
        match &read[0] {
            Ok(found) => {
                assert!(there, "{what}: {found:?}");
                assert_eq!(found.content_sha256.is_some(), content, "{what}");
            }
            Err(why) => assert!(!there, "{what}: {why}"),
        }
    }
}

/// Memory is written back in any state, and the domain is what it was.
async fn writing_back_changes_nothing(hypervisor: &Hypervisor, host: Target) {
    for state in [Power::Running, Power::Paused, Power::ShutOff] {
        bring(hypervisor, host, state).await;
        let before = hypervisor
            .inspection
            .anatomy(host)
            .await
            .expect("an anatomy");
        let written = hypervisor.capture.write_back(host).await;
        written.unwrap_or_else(|error| panic!("{state:?}: {error}"));
        let nowhere = Path::new("/nowhere");
        let file = before
            .ram_file
            .as_ref()
            .map_or(nowhere.to_owned(), twin::storage::Guarded::path);
        let split = hypervisor.capture.split_folios(host, &file).await;
        split.unwrap_or_else(|error| panic!("{state:?}: {error}"));
        let after = hypervisor
            .inspection
            .anatomy(host)
            .await
            .expect("an anatomy");
        assert_eq!(after, before, "{state:?}");
    }
}

/// Memory in a file is the caller's to keep: it is not in the state, and loading leaves it as the caller has put it.
pub(super) async fn memory_in_a_file(hypervisor: &Hypervisor, host: Target, memory: Mib) {
    const AT: u64 = 40 << 20;
    bring(hypervisor, host, Power::Running).await;
    hypervisor
        .capture
        .write_back(host)
        .await
        .expect("written back");
    bring(hypervisor, host, Power::Paused).await;
    let anatomy = hypervisor
        .inspection
        .anatomy(host)
        .await
        .expect("an anatomy");
    let guarded = anatomy.ram_file.expect("its memory is in a file");
    let (path, file) = (guarded.path(), guarded.open_writable());
    let file = file.expect("its file");
    assert_eq!(file.metadata().expect("it is there").len(), memory.bytes());
    let word = |word: Option<&[u8; 4]>| -> [u8; 4] {
        let mut read = [0; 4];
        if let Some(word) = word {
            file.write_all_at(word, AT).expect("written");
        }
        file.read_exact_at(&mut read, AT).expect("read");
        read
    };
    word(Some(b"then"));
    let captured = hypervisor.capture.capture(host, "file", Memory::File).await;
    captured.expect("captured");
    let split = hypervisor.capture.split_folios(host, &path).await;
    split.expect("split");
    assert_eq!(&word(None), b"then");
    let disks: Vec<PathBuf> = anatomy
        .disks
        .into_iter()
        .filter_map(|disk| disk.path)
        .collect();
    let states = hypervisor.inspection.examine(&disks, "file", false).await;
    let state = states.expect("examined").remove(0).expect("held");
    let bytes = state.state_bytes;
    assert!(bytes < memory.bytes() / 4, "memory is not in it: {bytes}");

    word(Some(b"late"));
    let loaded = hypervisor.capture.load(host, "file", Memory::File).await;
    loaded.expect("loaded");
    assert_eq!(&word(None), b"late", "only the caller puts memory back");
    assert_ne!(power_of(hypervisor, host).await, Power::Running);
    bring(hypervisor, host, Power::Running).await;
    let shared = || -> Vec<u64> {
        // The simulated hypervisor has no such files.
        let images = disks.iter().filter_map(|disk| Qcow2::open(disk).ok());
        images
            .map(|image| image.shared_vm_state().expect("its tables"))
            .collect()
    };
    let loaded = shared();
    assert!(loaded.iter().all(|shared| *shared >= bytes), "{loaded:?}");
    hypervisor
        .capture
        .write_back(host)
        .await
        .expect("written back");
    assert_eq!(
        shared(),
        vec![0; loaded.len()],
        "the next capture has its own"
    );
    let states = hypervisor.inspection.examine(&disks, "file", false).await;
    assert_eq!(states.expect("examined").remove(0).expect("held"), state);
    hypervisor
        .capture
        .discard(host, "file")
        .await
        .expect("discarded");
    bring(hypervisor, host, Power::ShutOff).await;
}

async fn running_is_refused(hypervisor: &Hypervisor, host: Target) {
    bring(hypervisor, host, Power::Paused).await;
    let captured = hypervisor
        .capture
        .capture(host, "still", Memory::Stream)
        .await;
    captured.expect("captured");
    bring(hypervisor, host, Power::Running).await;
    refused(
        &hypervisor
            .capture
            .capture(host, "moving", Memory::Stream)
            .await,
        "capturing what runs",
    );
    refused(
        &hypervisor.capture.load(host, "still", Memory::Stream).await,
        "putting back what runs",
    );
    assert_eq!(power_of(hypervisor, host).await, Power::Running);
    hypervisor
        .capture
        .discard(host, "still")
        .await
        .expect("discarded");
}

async fn memory_has_to_fit(hypervisor: &Hypervisor, host: Target) {
    bring(hypervisor, host, Power::ShutOff).await;
    refused(
        &hypervisor.capture.capture(host, "x", Memory::Stream).await,
        "memory of what is off",
    );
    bring(hypervisor, host, Power::Paused).await;
    refused(
        &hypervisor.capture.capture(host, "x", Memory::None).await,
        "a process without its memory",
    );
    hypervisor
        .capture
        .discard(host, "x")
        .await
        .expect("discarded");
}

/// A domain's definition can be put back; another lab's cannot be put in its place.
async fn definitions(hypervisor: &Hypervisor, host: Target, foreign: Target) {
    let anatomy = hypervisor
        .inspection
        .anatomy(host)
        .await
        .expect("an anatomy");
    hypervisor
        .capture
        .redefine(host, &anatomy.definition)
        .await
        .expect("its own");
    let again = hypervisor
        .inspection
        .anatomy(host)
        .await
        .expect("an anatomy");
    assert_eq!(again.definition, anatomy.definition);
    let other = anatomy
        .definition
        .replace(&host.lab.to_string(), &foreign.lab.to_string());
    assert_ne!(other, anatomy.definition, "it names its lab");
    refused(
        &hypervisor.capture.redefine(host, &other).await,
        "a definition of another lab",
    );
}

async fn strangers(hypervisor: &Hypervisor, foreign: Target) {
    let not_ours = |outcome: Result<(), HypervisorError>, what: &str| {
        assert!(
            matches!(outcome, Err(HypervisorError::NotOurs { .. })),
            "{what}: {outcome:?}"
        );
    };
    not_ours(
        hypervisor.inspection.anatomy(foreign).await.map(drop),
        "anatomy",
    );
    not_ours(hypervisor.capture.write_back(foreign).await, "write_back");
    let split = hypervisor
        .capture
        .split_folios(foreign, Path::new("/nowhere"))
        .await;
    not_ours(split, "split_folios");
    not_ours(
        hypervisor.capture.start_paused(foreign).await,
        "start_paused",
    );
    not_ours(hypervisor.capture.redefine(foreign, "").await, "redefine");
    not_ours(
        hypervisor
            .capture
            .capture(foreign, "x", Memory::Stream)
            .await,
        "capture",
    );
    not_ours(
        hypervisor.capture.load(foreign, "x", Memory::Stream).await,
        "load",
    );
    not_ours(
        hypervisor.capture.mark_crashed(foreign).await,
        "mark_crashed",
    );
    not_ours(hypervisor.capture.discard(foreign, "x").await, "discard");
}
