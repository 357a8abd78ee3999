//! Distribution packages: fetched by apt, unpacked beside the system, never installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::ImageError;
use crate::tools;

/// apt may have to fetch 100 MB.
const FETCH: Duration = Duration::from_secs(600);

/// Unpacking and other local work.
const LOCAL: Duration = Duration::from_secs(300);

/// Returns this machine's distribution id and codename, from os-release.
pub(super) fn distribution() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    (value("ID"), value("VERSION_CODENAME"))
}

/// Runs a tool; its standard output, or its last words as an error.
pub(super) async fn run(command: &mut Command, deadline: Duration) -> Result<Vec<u8>, ImageError> {
    let tool = tools::program(command.as_std());
    let output = run_to_end(command, deadline).await?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let why = last_words(&output.stderr);
    Err(ImageError::Tool { tool, why })
}

/// Runs a tool whose exit code says more than whether it worked.
pub(super) async fn run_to_end(
    command: &mut Command,
    deadline: Duration,
) -> Result<Output, ImageError> {
    let tool = tools::program(command.as_std());
    run_with(command, &tool, Stdio::null(), deadline).await
}

/// Runs a tool, called so, on what it reads from its standard input.
pub(super) async fn run_with(
    command: &mut Command,
    tool: &str,
    input: Stdio,
    deadline: Duration,
) -> Result<Output, ImageError> {
    let tool = tool.to_owned();
    let end = command.kill_on_drop(true).stdin(input).output();
    let output = tokio::time::timeout(deadline, end).await;
    let failed = |why: String| ImageError::Tool {
        tool: tool.clone(),
        why,
    };
    let output = output.map_err(|_| failed(format!("no end within {deadline:?}")))?;
    output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ImageError::ToolMissing { tool: tool.clone() },
        _ => failed(error.to_string()),
    })
}

/// The last lines that a tool wrote.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let words = String::from_utf8_lossy(stderr);
    let last: Vec<&str> = words.lines().rev().take(3).collect();
    last.into_iter().rev().collect::<Vec<_>>().join("; ")
}

/// Fetches packages and the libraries that they depend on into `directory`; returns the files.
pub(super) async fn fetch(wanted: &[String], directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    std::fs::create_dir_all(directory)
        .map_err(ImageError::io(format!("making {}", directory.display())))?;
    let names = closure(wanted).await?;
    let mut download = Command::new("apt-get");
    // Without this apt warns that its own user cannot write here.
    download
        .args(["-q", "-o", "APT::Sandbox::User=root", "download", "--"])
        .args(&names)
        .current_dir(directory);
    run(&mut download, FETCH).await?;
    let entries = std::fs::read_dir(directory)
        .map_err(ImageError::io(format!("reading {}", directory.display())))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "deb"))
        .collect();
    files.sort();
    Ok(files)
}

/// Returns the wanted packages and, of what they depend on, the kernels, modules and libraries.
async fn closure(wanted: &[String]) -> Result<Vec<String>, ImageError> {
    let mut depends = Command::new("apt-cache");
    depends.args([
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
    ]);
    depends.arg("--").args(wanted);
    let text = run(&mut depends, LOCAL).await?;
    let text = String::from_utf8_lossy(&text);
    // Lines that start a record name a package; `<name>` is virtual.
    let listed: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with([' ', '|', '<']) && !line.contains(':'))
        .collect();
    let mut show = Command::new("apt-cache");
    show.args(["show", "--no-all-versions", "--"]).args(&listed);
    let records = run(&mut show, LOCAL).await?;
    let records = String::from_utf8_lossy(&records);
    let mut names: BTreeSet<String> = BTreeSet::new();
    for record in records.split("\n\n") {
        let field = |key: &str| {
            record
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let (Some(name), Some(section)) = (field("Package:"), field("Section:")) else {
            continue;
        };
        let library = section.ends_with("libs") || name.starts_with("lib");
        let kernel = name.starts_with("linux-image-") || name.starts_with("linux-modules-");
        if library || kernel || wanted.iter().any(|wanted| wanted == name) {
            names.insert(name.to_owned());
        }
    }
    // A kernel's signed and unsigned builds exclude each other; the signed one is what the meta package wants.
    names.retain(|name| !name.ends_with("-unsigned") && !name.ends_with("-dbg"));
    Ok(names.into_iter().collect())
}

/// Unpacks package files into `root`.
pub(super) async fn unpack(files: &[PathBuf], root: &Path) -> Result<(), ImageError> {
    for file in files {
        run(
            Command::new("dpkg-deb").arg("-x").arg(file).arg(root),
            LOCAL,
        )
        .await?;
    }
    Ok(())
}

/// Returns the one kernel version that has modules below `root`.
pub(super) fn kernel_version(root: &Path) -> Result<String, ImageError> {
    let mut versions: Vec<String> = ["lib/modules", "usr/lib/modules"]
        .iter()
        .filter_map(|place| std::fs::read_dir(root.join(place)).ok())
        .flat_map(Iterator::flatten)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    versions.sort();
    versions.pop().ok_or_else(|| ImageError::FileMissing {
        file: "/lib/modules/VERSION".into(),
    })
}
