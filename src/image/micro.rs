//! The builder of `kind: initramfs`.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::modules::Modules;
use super::packages::{self, run};
use super::{ImageError, Recipe, initramfs};
use crate::storage::Tree;

const LOCAL: Duration = Duration::from_secs(60);

/// Where libraries are looked for below an unpacked root.
const LIBRARY_PATHS: &[&str] = &[
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib",
    "usr/lib",
    "lib64",
];

/// Builds `kernel` and `initrd` in `out`, with `scratch` for unpacked packages.
pub(super) async fn build(
    recipe: &Recipe,
    guest: &Path,
    scratch: &Path,
    out: &Path,
) -> Result<(), ImageError> {
    let (distribution, _) = packages::distribution();
    let mut wanted = recipe.packages.clone();
    wanted.push(recipe.kernel_package(&distribution)?.to_owned());
    let (root, tree) = (scratch.join("root"), scratch.join("tree"));
    let files = packages::fetch(&wanted, &scratch.join("packages")).await?;
    packages::unpack(&files, &root).await?;
    skeleton(recipe, &root, guest, &tree).await?;
    let version = packages::kernel_version(&root)?;
    kernel_modules(recipe, &root, &version, &tree).await?;
    let kernel = root.join(format!("boot/vmlinuz-{version}"));
    std::fs::copy(&kernel, out.join("kernel"))
        .map_err(ImageError::io(format!("copying {}", kernel.display())))?;
    initramfs::write(&tree, &out.join("initrd"))
}

/// Directories, programs with their libraries, busybox's names, and the recipe's files.
async fn skeleton(
    recipe: &Recipe,
    root: &Path,
    guest: &Path,
    tree: &Path,
) -> Result<(), ImageError> {
    for directory in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "root",
        "var",
        "etc/twin",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
    ] {
        std::fs::create_dir_all(tree.join(directory))
            .map_err(ImageError::io(format!("making {directory}")))?;
    }
    // One hierarchy, as distributions have it now: /bin is /usr/bin.
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), tree.join(name))
            .map_err(ImageError::io(format!("linking /{name}")))?;
    }
    let mut pending: Vec<PathBuf> = Vec::new();
    for program in &recipe.programs {
        pending.push(find(root, program).ok_or_else(|| ImageError::FileMissing {
            file: program.clone(),
        })?);
    }
    for (named, program) in recipe.programs.iter().zip(&pending) {
        // Some programs go by the name that a link gives them.
        let name = Path::new(named).file_name().unwrap_or_default();
        install(program, &tree.join("usr/sbin").join(name), 0o755)?;
    }
    libraries(root, tree, pending)?;
    let made = Tree::open(tree).map_err(ImageError::io("opening the image's tree"))?;
    for (path, target) in &recipe.links {
        made.link(Path::new(path), target)
            .map_err(ImageError::io(format!("linking {path}")))?;
    }
    let busybox = find(root, "/bin/busybox").ok_or_else(|| ImageError::FileMissing {
        file: "/bin/busybox".into(),
    })?;
    install(&busybox, &tree.join("usr/bin/busybox"), 0o755)?;
    let applets = run(Command::new(&busybox).arg("--list"), LOCAL).await?;
    for applet in String::from_utf8_lossy(&applets).lines() {
        let taken = ["usr/bin", "usr/sbin"]
            .iter()
            .any(|place| tree.join(place).join(applet).symlink_metadata().is_ok());
        if !taken {
            symlink("busybox", tree.join("usr/bin").join(applet))
                .map_err(ImageError::io(format!("linking {applet}")))?;
        }
    }
    install(guest, &tree.join("usr/bin/twin-guest"), 0o755)?;
    symlink("usr/bin/twin-guest", tree.join("init")).map_err(ImageError::io("linking /init"))?;
    // The kernel asks for modules by this path.
    symlink("../bin/busybox", tree.join("usr/sbin/modprobe"))
        .map_err(ImageError::io("linking modprobe"))?;
    for (path, text) in &recipe.files {
        made.write(Path::new(path), text.as_bytes())
            .map_err(ImageError::io(format!("writing {path}")))?;
    }
    Ok(())
}

/// Finds a file of the recipe below the unpacked root, whether the package has it under / or /usr. Links lead to places below
/// that root.
fn find(root: &Path, path: &str) -> Option<PathBuf> {
    let tree = Tree::open(root).ok()?;
    let bare = path.trim_start_matches('/').trim_start_matches("usr/");
    let places = [bare.to_owned(), format!("usr/{bare}")];
    let mut places = places.into_iter().map(PathBuf::from);
    let place = places.find(|place| tree.read(place).is_ok_and(|file| file.is_some()))?;
    // What a link leads to, as this machine names it.
    let file = tree.read(&place).ok()??;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<(), ImageError> {
    let what = format!("copying {} to {}", from.display(), to.display());
    std::fs::copy(from, to)
        .and_then(|_| std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)))
        .map_err(ImageError::io(what))
}

/// Copies the libraries that `pending` need, and what those need, and the loader.
fn libraries(root: &Path, tree: &Path, mut pending: Vec<PathBuf>) -> Result<(), ImageError> {
    let mut done: BTreeSet<String> = BTreeSet::new();
    while let Some(file) = pending.pop() {
        let bytes =
            std::fs::read(&file).map_err(ImageError::io(format!("reading {}", file.display())))?;
        let Ok(elf) = goblin::elf::Elf::parse(&bytes) else {
            continue;
        };
        let loader = elf
            .interpreter
            .map(|loader| loader.rsplit('/').next().unwrap_or(loader));
        for name in elf.libraries.iter().copied().chain(loader) {
            if !done.insert(name.to_owned()) {
                continue;
            }
            let found = LIBRARY_PATHS
                .iter()
                .map(|place| root.join(place).join(name))
                .find(|path| path.is_file());
            let found = found.ok_or_else(|| ImageError::FileMissing {
                file: name.to_owned(),
            })?;
            let place = if name.starts_with("ld-linux") {
                "usr/lib64"
            } else {
                "usr/lib"
            };
            install(&found, &tree.join(place).join(name), 0o755)?;
            pending.push(found);
        }
    }
    Ok(())
}

/// Copies modules, and writes the list of those to load at boot.
async fn kernel_modules(
    recipe: &Recipe,
    root: &Path,
    version: &str,
    tree: &Path,
) -> Result<(), ImageError> {
    let modules = Modules::read(root, version).await?;
    let target = tree.join("usr/lib/modules").join(version);
    std::fs::create_dir_all(&target).map_err(ImageError::io("making the module directory"))?;
    let early = modules
        .copy(&modules.in_order(&recipe.modules), &target)
        .await?;
    modules
        .copy(&modules.in_order(&recipe.extra_modules), &target)
        .await?;
    run(
        Command::new("depmod").arg("-b").arg(tree).arg(version),
        LOCAL,
    )
    .await?;
    let list: String = early
        .iter()
        .map(|file| format!("/lib/modules/{version}/{file}\n"))
        .collect();
    std::fs::write(tree.join("etc/twin/modules"), list)
        .map_err(ImageError::io("writing the list of modules"))
}
