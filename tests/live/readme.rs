//! README's small lab, command by command as it is written there.

use crate::support::{TestLab, full, root, text};

/// The topology of README's "From a topology to a verdict", and the commands below it without their comments.
fn walk() -> (String, Vec<String>) {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (topology, rest) = rest.split_once("```\n\n").unwrap();
    let commands = rest
        .lines()
        .take_while(|line| line.starts_with("    twin "));
    let commands = commands.map(|line| line.split(" #").next().unwrap().trim().to_owned());
    (topology.to_owned(), commands.collect())
}

#[test]
fn readmes_small_lab_does_what_it_says() {
    let (topology, commands) = walk();
    let verbs = ["up", "scenario", "report", "snapshot", "restore", "destroy"];
    for verb in verbs {
        let start = format!("twin {verb}");
        assert!(
            commands.iter().any(|command| command.starts_with(&start)),
            "README shows no {start}: {commands:?}"
        );
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("small.yaml"), topology).unwrap();
    let lab = TestLab::new();
    for command in &commands {
        let mut words: Vec<&str> = command.split_whitespace().skip(1).collect();
        // The sample asks what each run would do, and leaves the report of it out.
        match words[0] {
            "report" if !full() => continue,
            "scenario" if !full() => words.push("--dry-run"),
            _ => {}
        }
        let output = lab
            .command(&words)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {said}");
        assert!(!said.contains("would be refused"), "{command}: {said}");
    }
    assert_eq!(lab.traces(), Vec::<String>::new());
}
