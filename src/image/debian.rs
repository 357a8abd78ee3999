//! The builder of `kind: rootfs`: a systemd guest by mmdebstrap.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::packages::{self, run};
use super::{ImageError, Recipe};
use crate::tools::{self, Limits};
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

/// Builds `kernel`, `initrd` and `disk.qcow2` in `out`.
pub(super) async fn build(
    recipe: &Recipe,
    guest: &Path,
    scratch: &Path,
    out: &Path,
) -> Result<(), ImageError> {
    let (distribution, codename) = packages::distribution();
    let tree = scratch.join("tree");
    let mut include = recipe.packages.clone();
    include.push(recipe.kernel_package(&distribution)?.to_owned());
    let mut bootstrap = Command::new("mmdebstrap");
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
        .arg("--")
        .arg(codename)
        .arg(&tree)
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut bootstrap, BOOTSTRAP).await?;
    configure(&tree, guest).await?;
    for (name, place) in [("kernel", "boot/vmlinuz-"), ("initrd", "boot/initrd.img-")] {
        let from = tree.join(format!("{place}{}", packages::kernel_version(&tree)?));
        std::fs::copy(&from, out.join(name))
            .map_err(ImageError::io(format!("copying {}", from.display())))?;
    }
    let raw = scratch.join("disk.raw");
    let size = recipe.size.unwrap_or(Mib(2048));
    let mut format = Command::new("mke2fs");
    format
        .args(["-q", "-F", "-t", "ext4", "-L", "twin-root", "-d"])
        .arg(&tree)
        .arg(&raw)
        .arg(format!("{}M", size.0));
    run(&mut format, LOCAL).await?;
    let (start, words) = tools::limited("qemu-img", Limits::IMAGE, None);
    let mut convert = Command::new(start);
    convert
        .args(words)
        .args(["convert", "-q", "-f", "raw", "-O", "qcow2", "--"])
        .arg(&raw)
        .arg(out.join("disk.qcow2"));
    run(&mut convert, LOCAL).await.map(drop)
}

/// twin-guest and what makes a bootstrapped tree a guest.
async fn configure(tree: &Path, guest: &Path) -> Result<(), ImageError> {
    let write = |path: &str, text: &str| {
        let file = tree.join(path);
        // The guest's users read it, whatever the umask of the build is.
        std::fs::write(&file, text)
            .and_then(|()| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)))
            .map_err(ImageError::io(format!("writing {path}")))
    };
    write(
        "etc/fstab",
        "/dev/vda / ext4 errors=remount-ro,x-systemd.growfs 0 1\n",
    )?;
    write("etc/systemd/system/twin-guest.service", UNIT)?;
    write(
        "etc/modules-load.d/twin.conf",
        "qemu_fw_cfg\nvirtio_console\n",
    )?;
    let binary = tree.join("usr/bin/twin-guest");
    std::fs::copy(guest, &binary)
        .and_then(|_| std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)))
        .map_err(ImageError::io("copying twin-guest"))?;
    let enable = ["enable", "twin-guest.service", "serial-getty@ttyS0.service"];
    run(
        Command::new("systemctl")
            .arg(format!("--root={}", tree.display()))
            .args(enable),
        LOCAL,
    )
    .await?;
    // The console lets root in without a password: whoever reaches it owns the hypervisor anyway.
    run(
        Command::new("chroot")
            .arg(tree)
            .args(["passwd", "-d", "root"]),
        LOCAL,
    )
    .await?;
    write("etc/resolv.conf", "")
}
