//! The builder of `kind: rootfs`: a systemd guest by mmdebstrap.
//!
//! Packages bring scripts that run while they are installed. They run in a user namespace: for them they are root, and on this
//! machine they are a user who owns the tree that is built and nothing else. What they have made is taken out of there by
//! names that lead nowhere else.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::packages::{self, last_words, run_with};
use super::{ImageError, Progress, Recipe};
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

/// What of the operator's environment a build sees.
const ENVIRONMENT: [&str; 9] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Builds `kernel`, `initrd` and `disk.qcow2` in `out`, with `scratch` for the tree.
pub(super) async fn build(
    recipe: &Recipe,
    guest: &Path,
    scratch: &Path,
    out: &Path,
    progress: Progress<'_>,
) -> Result<(), ImageError> {
    let (distribution, codename) = packages::distribution();
    let site = Site::new(scratch, progress).await?;
    let mut include = recipe.packages.clone();
    include.push(recipe.kernel_package(&distribution)?.to_owned());
    let include = format!("--include={}", include.join(","));
    let bootstrap = [
        "--quiet",
        "--variant=minbase",
        "--mode=root",
        "--aptopt=Acquire::Retries=3",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        &include,
        "--",
        &codename,
        TREE,
    ];
    site.run("mmdebstrap", bootstrap, Stdio::null(), BOOTSTRAP)
        .await?;
    configure(&site, guest).await?;
    let version = packages::kernel_version(&site.place.join(TREE))?;
    for (name, place) in [("kernel", "boot/vmlinuz-"), ("initrd", "boot/initrd.img-")] {
        let from = format!("{TREE}/{place}{version}");
        site.take(Path::new(&from), &out.join(name))?;
    }
    let size = format!("{}M", recipe.size.unwrap_or(Mib(2048)).0);
    let format = ["-q", "-F", "-t", "ext4", "-L", "twin-root", "-d", TREE];
    let format = format.into_iter().chain(["disk.raw", &size]);
    site.run("mke2fs", format, Stdio::null(), LOCAL).await?;
    let convert = ["convert", "-q", "-f", "raw", "-O", "qcow2", "--"];
    let convert = convert.into_iter().chain(["disk.raw", "disk.qcow2"]);
    site.run("qemu-img", convert, Stdio::null(), LOCAL).await?;
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
    async fn new(scratch: &Path, progress: Progress<'_>) -> Result<Self, ImageError> {
        let place = scratch.join("site");
        let apart = UserNamespace::new();
        if let Err(error) = &apart {
            let what = "this machine makes no user namespace";
            progress(&format!("{what} ({error}): packages are installed as root"));
        }
        let apart = apart.ok();
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
        let site = Self { place, apart };
        let own = [OsStr::new("-w"), site.place.as_os_str()];
        let reached = site.attempt("test", own, Stdio::null(), LOCAL).await?;
        if reached.status.success() {
            return Ok(site);
        }
        Err(ImageError::Closed { place: site.place })
    }

    /// Runs a program there within limits, and as its root; it has ended with all that it started.
    async fn attempt(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: Stdio,
        deadline: Duration,
    ) -> Result<Output, ImageError> {
        let (enter, own) = match &self.apart {
            Some(apart) => {
                let (enter, mut own) = apart.words();
                own.push(program.into());
                (enter, own)
            }
            None => (program, Vec::<OsString>::new()),
        };
        let (start, words) = tools::limited(enter, Limits::BUILD, None);
        let mut command = Command::new(start);
        command
            .args(words)
            .args(own)
            .args(arguments)
            .current_dir(&self.place)
            .env_clear();
        let given = ENVIRONMENT.iter();
        let given = given.filter_map(|name| Some((name, std::env::var_os(name)?)));
        command
            .envs(given)
            .env("HOME", "/")
            .env("DEBIAN_FRONTEND", "noninteractive");
        run_with(&mut command, program, input, deadline).await
    }

    /// The same for one that has to succeed.
    async fn run(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: Stdio,
        deadline: Duration,
    ) -> Result<(), ImageError> {
        let output = self.attempt(program, arguments, input, deadline).await?;
        let tool = program.to_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            // What starts it says that there is none.
            Some(127) => Err(ImageError::ToolMissing { tool }),
            _ => Err(ImageError::Tool {
                tool,
                why: last_words(&output.stderr),
            }),
        }
    }

    /// Writes a file of the tree.
    async fn put(&self, path: &str, mut content: File, mode: &str) -> Result<(), ImageError> {
        content
            .rewind()
            .map_err(ImageError::io(format!("writing {path}")))?;
        let place = format!("{TREE}/{path}");
        let into = [&format!("of={place}"), "bs=1M", "status=none"];
        self.run("dd", into, Stdio::from(content), LOCAL).await?;
        let open = [mode, "--", &place];
        self.run("chmod", open, Stdio::null(), LOCAL).await
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
    let mut rooted = OsStr::new("--root=").to_owned();
    rooted.push(site.place.join(TREE));
    let units = ["twin-guest.service", "serial-getty@ttyS0.service"];
    let words = [rooted.as_os_str(), OsStr::new("enable")].into_iter();
    let words = words.chain(units.map(OsStr::new));
    site.run("systemctl", words, Stdio::null(), LOCAL).await?;
    // The console lets root in without a password: who can open it manages this machine's domains, and owns the guest anyway.
    let words = [TREE, "passwd", "-d", "root"];
    site.run("chroot", words, Stdio::null(), LOCAL).await?;
    site.put("etc/resolv.conf", holding("")?, "644").await
}
