//! The builder of `kind: rootfs`: a systemd guest by mmdebstrap.
//!
//! Packages bring scripts that run while they are installed. They run in a user namespace: for them they are root, and on this
//! machine they are a user who owns the tree that is built and nothing else. What they have made is taken out of there by
//! names that lead nowhere else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::packages::{self, last_words, run, run_with};
use super::{ImageError, Recipe};
use crate::storage::{self, Guarded};
use crate::tools::{self, Limits, UserNamespace};
use crate::units::Mib;

/// mmdebstrap fetches and unpacks some 150 packages.
const BOOTSTRAP: Duration = Duration::from_secs(1200);

const LOCAL: Duration = Duration::from_secs(300);

/// The unit that starts twin-guest.
const UNIT: &str = "[Unit]
Description=twin's helper in the guest
DefaultDependencies=no
After=systemd-udevd.service systemd-remount-fs.service local-fs.target
Before=network-pre.target ssh.service
Wants=network-pre.target

[Service]
ExecStartPre=-/sbin/modprobe qemu_fw_cfg
ExecStartPre=-/sbin/modprobe virtio_console
ExecStart=/usr/bin/twin-guest agent --under-systemd
Restart=always
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
";

/// Builds `kernel`, `initrd` and `disk.qcow2` in `out`, with `scratch` for the tree.
pub(super) async fn build(
    recipe: &Recipe,
    guest: &Path,
    scratch: &Path,
    out: &Path,
) -> Result<(), ImageError> {
    let (distribution, codename) = packages::distribution();
    let site = Site::new(scratch)?;
    let mut include = recipe.packages.clone();
    include.push(recipe.kernel_package(&distribution)?.to_owned());
    let mut bootstrap = site.with_mounts("mmdebstrap");
    bootstrap
        .args([
            "--quiet",
            "--variant=minbase",
            "--mode=root",
            "--aptopt=Acquire::Retries=3",
        ])
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg(format!("--include={}", include.join(",")))
        .args(["--", codename.as_str(), TREE])
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut bootstrap, BOOTSTRAP).await?;
    configure(&site, guest).await?;
    let version = packages::kernel_version(&site.place.join(TREE))?;
    for (name, place) in [("kernel", "boot/vmlinuz-"), ("initrd", "boot/initrd.img-")] {
        let from = format!("{TREE}/{place}{version}");
        site.take(Path::new(&from), &out.join(name))?;
    }
    let size = recipe.size.unwrap_or(Mib(2048));
    let mut format = site.command("mke2fs");
    format
        .args(["-q", "-F", "-t", "ext4", "-L", "twin-root", "-d", TREE])
        .args(["disk.raw".to_owned(), format!("{}M", size.0)]);
    run(&mut format, LOCAL).await?;
    let mut convert = site.command("qemu-img");
    convert
        .args(["convert", "-q", "-f", "raw", "-O", "qcow2", "--"])
        .args(["disk.raw", "disk.qcow2"]);
    run(&mut convert, LOCAL).await?;
    site.take(Path::new("disk.qcow2"), &out.join("disk.qcow2"))
}

/// The directory of the tree, where it is built.
const TREE: &str = "tree";

/// Where an image is built, and as whom.
struct Site {
    place: PathBuf,
    /// None where this machine has no user namespaces.
    apart: Option<UserNamespace>,
}

impl Site {
    fn new(scratch: &Path) -> Result<Self, ImageError> {
        let place = scratch.join("site");
        let apart = UserNamespace::new()
            .inspect_err(|error| {
                tracing::warn!(%error, "no user namespace: packages are installed as root");
            })
            .ok();
        let make = || -> std::io::Result<()> {
            storage::make_passage(&place)?;
            let Some(apart) = &apart else { return Ok(()) };
            // Its root passes through what is above, which only root can list.
            for directory in place.ancestors().skip(1).take(2) {
                storage::make_passage(directory)?;
            }
            let (user, group) = apart.root();
            chown(&place, Some(user), Some(group))
        };
        make().map_err(ImageError::io(format!("making {}", place.display())))?;
        Ok(Self { place, apart })
    }

    /// Runs a program there within limits, and as its root.
    fn command(&self, program: &str) -> Command {
        let mut command = if let Some(apart) = &self.apart {
            let (enter, own) = apart.words();
            let (start, words) = tools::limited(enter, Limits::BUILD, None);
            let mut command = Command::new(start);
            command.args(words).args(own).arg(program);
            command
        } else {
            let (start, words) = tools::limited(program, Limits::BUILD, None);
            let mut command = Command::new(start);
            command.args(words);
            command
        };
        command
            .current_dir(&self.place)
            .env("HOME", "/")
            .env_remove("TMPDIR");
        command
    }

    /// The same for a program that mounts: what it mounts and starts is gone once it has ended, or was killed.
    fn with_mounts(&self, program: &str) -> Command {
        let mut command = self.command("unshare");
        command
            .args(["--mount", "--pid", "--ipc", "--uts", "--fork"])
            .args(["--kill-child", "--", program]);
        command
    }

    /// Writes a file of the tree.
    async fn put(&self, path: &str, mut content: File, mode: &str) -> Result<(), ImageError> {
        let failed = || format!("writing {path}");
        content.rewind().map_err(ImageError::io(failed()))?;
        let mut write = self.command("sh");
        let script = "cat >\"$1\" && chmod \"$2\" \"$1\"";
        write.args(["-c", script, "sh"]);
        write.arg(Path::new(TREE).join(path)).arg(mode);
        let output = run_with(&mut write, Stdio::from(content), LOCAL).await?;
        if output.status.success() {
            return Ok(());
        }
        Err(ImageError::Tool {
            tool: failed(),
            why: last_words(&output.stderr),
        })
    }

    /// Copies a file out of it: a regular one, on the way to which there is no link.
    fn take(&self, from: &Path, to: &Path) -> Result<(), ImageError> {
        let copy = || -> std::io::Result<()> {
            let mut file = Guarded::new(&self.place, from).open()?;
            let mut copy = File::create_new(to)?;
            std::io::copy(&mut file, &mut copy).map(drop)
        };
        copy().map_err(ImageError::io(format!("copying {}", from.display())))
    }
}

/// A file without a name that holds this text.
fn holding(text: &str) -> Result<File, ImageError> {
    let write = || -> std::io::Result<File> {
        let mut file = tempfile::tempfile()?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    write().map_err(ImageError::io("writing a file of the image"))
}

/// twin-guest and what makes a bootstrapped tree a guest.
async fn configure(site: &Site, guest: &Path) -> Result<(), ImageError> {
    let fstab = "/dev/vda / ext4 errors=remount-ro,x-systemd.growfs 0 1\n";
    let modules = "qemu_fw_cfg\nvirtio_console\n";
    // The guest's users read them, whatever the umask of the build is.
    for (path, text) in [
        ("etc/fstab", fstab),
        ("etc/systemd/system/twin-guest.service", UNIT),
        ("etc/modules-load.d/twin.conf", modules),
    ] {
        site.put(path, holding(text)?, "644").await?;
    }
    let binary = File::open(guest).map_err(ImageError::io("reading twin-guest"))?;
    site.put("usr/bin/twin-guest", binary, "755").await?;
    let enable = ["enable", "twin-guest.service", "serial-getty@ttyS0.service"];
    let mut systemctl = site.command("systemctl");
    let tree = site.place.join(TREE);
    let mut rooted = OsStr::new("--root=").to_owned();
    rooted.push(&tree);
    run(systemctl.arg(rooted).args(enable), LOCAL).await?;
    // The console lets root in without a password: whoever reaches it owns the hypervisor anyway.
    let mut passwd = site.command("chroot");
    run(passwd.args([TREE, "passwd", "-d", "root"]), LOCAL).await?;
    site.put("etc/resolv.conf", holding("")?, "644").await
}
