//! The command line's manners.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::binary::twin;
use crate::support::{root, text};

#[test]
fn help_names_every_exit_code_and_version_names_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let help = twin(directory.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "130 "] {
        assert!(
            text(&help.stdout)
                .lines()
                .any(|line| line.trim_start().starts_with(code)),
            "{code}"
        );
    }
    assert!(text(&twin(directory.path(), &["--version"]).stdout).starts_with("twin "));
}

#[test]
fn mistakes_on_the_command_line_end_with_2_and_suggest() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, hint) in [
        (vec!["upp"], "up"),
        (vec!["up", "testclowd"], "did you mean testcloud?"),
        (
            vec!["scenario", "oom-openstack"],
            "did you mean oom-openstack1?",
        ),
        (vec!["up", "tiny", "--scale", "3"], "--scale auto"),
        (vec!["--lab", "Not_A_Name", "up", "tiny"], "--lab"),
        (
            vec!["scenario", "oom-openstack1", "--set", "nonsense=1"],
            "nonsense",
        ),
        (
            vec!["scenario", "oom-openstack1", "--on", "sim"],
            "does not have the world sim",
        ),
        (vec!["--json", "completions", "bash"], "leave --json out"),
    ] {
        let output = twin(directory.path(), &arguments);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
    }
}

/// What stands in a file by hand is found by the file's name; one with mistakes is told of.
#[test]
fn scenarios_are_listed_by_what_they_are_run_by() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("scenarios");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(
        root().join("scenarios/rebuild.yaml"),
        folder.join("mine.yaml"),
    )
    .unwrap();
    std::fs::write(folder.join("broken.yaml"), "schema: twin/scenario/v1\n").unwrap();
    let output = twin(directory.path(), &["scenario"]);
    let (listed, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.contains(&"mine") && names.contains(&"rebuild"),
        "{listed}"
    );
    assert!(!names.contains(&"broken"), "{listed}");
    assert!(told.contains("mine is called rebuild"), "{told}");
    assert!(told.contains("`twin scenario broken --explain`"), "{told}");
}

/// A journal that cannot be read is not an empty one.
/// An earlier twin's that was killed, or one that died before its first event.
#[test]
fn a_run_of_which_nothing_is_on_record_has_not_come_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let journal = twin::journal::Journal::open(&state, &twin::clock::SystemClock::shared());
    let begun = journal
        .unwrap()
        .begin_run("ab12", (uuid::Uuid::nil(), "lab"), "s", 1);
    begun.unwrap();
    for words in [vec!["report"], vec!["report", "ab12", "--junit"]] {
        let output = twin(directory.path(), &words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains("run ab12 has not come to its end"), "{said}");
        assert!(said.contains("twin recover"), "{said}");
    }
}

#[test]
fn a_journal_of_a_later_twin_is_told_by_those_who_only_look() {
    let directory = tempfile::tempdir().unwrap();
    let none = twin(directory.path(), &["runs"]);
    assert_eq!(none.status.code(), Some(0), "{}", text(&none.stderr));
    let state = directory.path().join("state");
    drop(twin::journal::Journal::open(&state, &twin::clock::SystemClock::shared()).unwrap());
    let connection = rusqlite::Connection::open(state.join("journal.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    for verb in ["runs", "report"] {
        let output = twin(directory.path(), &[verb]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{verb}: {said}");
        assert!(
            said.contains("version 99") && said.contains("the twin that wrote it"),
            "{said}"
        );
    }
}

#[test]
fn without_a_lab_verbs_say_how_to_make_one_with_exit_4() {
    let directory = tempfile::tempdir().unwrap();
    // libvirt's test driver has no lab of ours.
    for verb in [
        vec!["status"],
        vec!["destroy"],
        vec!["scenario", "oom-openstack1"],
        vec!["exec", "a", "--", "true"],
    ] {
        let mut arguments = vec!["--connect", "test:///default"];
        arguments.extend(verb);
        let output = twin(directory.path(), &arguments);
        assert_eq!(
            output.status.code(),
            Some(4),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(
            text(&output.stderr).contains("twin up"),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_hypervisor_that_is_not_there_is_named_with_its_cure() {
    let directory = tempfile::tempdir().unwrap();
    let output = twin(
        directory.path(),
        &[
            "--connect",
            "qemu+unix:///system?socket=/nonexistent/libvirt-sock",
            "status",
        ],
    );
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains("libvirtd"),
        "{}",
        text(&output.stderr)
    );
}

/// `make demo` beside programs that say what is asked of them and do nothing; `exits` is what `twin scenario` ends with.
fn demo(exits: u8) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let program = |path: &str, text: &str| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("scripts/host-setup.sh", "exit 0");
    program("bin/make", "exit 0");
    let scenario = format!("case \"$*\" in *' scenario '*--variant\\ fix) exit {exits};; esac");
    program("target/release/twin", &scenario);
    std::fs::copy(
        root().join("scripts/demo.sh"),
        directory.path().join("scripts/demo.sh"),
    )
    .unwrap();
    let output = std::process::Command::new("bash")
        .arg(Path::new("scripts/demo.sh"))
        .current_dir(directory.path())
        .env(
            "PATH",
            format!("{}/bin:/usr/bin:/bin", directory.path().display()),
        )
        .output()
        .unwrap();
    (output.status.code(), text(&output.stdout))
}

#[test]
fn the_demo_passes_only_where_every_variant_does() {
    let (code, said) = demo(0);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("verdict: pass\n"), "{said}");
    let (code, said) = demo(1);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("verdict: not pass (exit 1)") && said.contains("oom-openstack1, control"),
        "{said}"
    );
}

#[test]
fn b6_a_bare_name_is_not_taken_from_where_another_user_can_write_and_a_hidden_one_is_told() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("scenarios");
    std::fs::create_dir(&folder).unwrap();
    let own = std::fs::read_to_string(root().join("scenarios/rebuild.yaml")).unwrap();
    let changed = own.replacen("title: ", "title: ANOTHER ", 1);
    assert_ne!(own, changed);
    let file = folder.join("rebuild.yaml");
    std::fs::write(&file, &changed).unwrap();
    let explained = || {
        let output = twin(directory.path(), &["scenario", "rebuild", "--explain"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (
            text(&output.stdout).contains("ANOTHER"),
            text(&output.stderr),
        )
    };
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in [folder.as_path(), file.as_path()] {
        mode(path, 0o755);
    }
    let (taken, said) = explained();
    assert!(
        taken && said.contains("not the one that comes with twin"),
        "{said}"
    );
    // The same text hides nothing.
    std::fs::write(&file, &own).unwrap();
    assert_eq!(explained(), (false, String::new()));
    std::fs::write(&file, &changed).unwrap();
    for path in [folder.as_path(), file.as_path()] {
        for open in [0o777, 0o1777, 0o775] {
            std::os::unix::fs::chown(path, Some(0), Some(65534)).unwrap();
            mode(path, open);
            let (taken, said) = explained();
            assert!(!taken && said.contains("can write to"), "{open:o}: {said}");
        }
        mode(path, 0o755);
        std::os::unix::fs::chown(path, Some(65534), Some(0)).unwrap();
        let (taken, said) = explained();
        assert!(!taken && said.contains("belongs to user 65534"), "{said}");
        std::os::unix::fs::chown(path, Some(0), None).unwrap();
    }
    // A path was asked for: it is taken.
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    let output = twin(
        directory.path(),
        &["scenario", "scenarios/rebuild.yaml", "--explain"],
    );
    assert!(
        text(&output.stdout).contains("ANOTHER"),
        "{}",
        text(&output.stderr)
    );
}
