//! The self-test: whether memory in a file can be put back under a running process here.
//!
//! A throw-away VM writes 16 bytes of its memory to its serial port again and again. Its memory file gets one nonce, is
//! captured, gets another one, and is put back; what the VM says after that decides. This goes through libvirt and its
//! security driver, as the real thing does.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::files::{self, Way, can_reflink};
use crate::hypervisor::{HypervisorError, Machine, Memory, PowerAction, Target};
use crate::lab::{Drivers, LabError, Layout, Lock};
use crate::model::spec::{Boot, DiskSpec, DomainSpec, Marked};
use crate::model::{AcceleratorChoice, LabRecord, Mark, RamBacking, Scale};
use crate::storage::{self, Guarded};
use crate::tools::{self, Limits};
use crate::units::Mib;

/// libvirt's settings of QEMU: where memory files are, and which security driver there is.
const QEMU_CONF: &str = "/etc/libvirt/qemu.conf";

/// The name of the lab that the VM belongs to.
const NAME: &str = "twin-self-test";

/// Where in the VM's memory the nonce is.
const PLACE: u64 = 0x9000;

/// 16-bit code: forever, write 16 bytes from 0x9000 to the first serial port, then count for a while.
const CODE: [u8; 28] = [
    0x31, 0xc0, 0x8e, 0xd8, 0xfc, // xor ax, ax; mov ds, ax; cld
    0xbe, 0x00, 0x90, 0xba, 0xf8, 0x03, 0xb9, 0x10,
    0x00, // mov si, 0x9000; mov dx, 0x3f8; mov cx, 16
    0xf3, 0x6e, // rep outsb
    0x66, 0xb9, 0x20, 0xa1, 0x07, 0x00, 0x66, 0x49, 0x75,
    0xfc, // mov ecx, 500000; dec ecx; jnz -4
    0xeb, 0xe9, // jmp to mov si
];

/// The VM says what is expected within this; its firmware takes a second under emulation.
const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at what it says.
const LOOK: Duration = Duration::from_millis(10);

/// What the self-test found, and for which machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Kernel, QEMU, libvirt, accelerator, file system, and when libvirt's settings were changed.
    key: String,
    /// Why memory in a file cannot be put back; nothing where it can.
    pub failure: Option<String>,
}

/// What the self-test's outcome hangs on.
fn key(machine: &Machine, layout: &Layout, accelerator: AcceleratorChoice) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let file_system = nix::sys::statfs::statfs(&layout.pool())
        .map(|found| format!("{:?}", found.filesystem_type()))
        .unwrap_or_default();
    // What is mended in libvirt's settings, or in those of its security driver, is tested anew.
    let settings = std::fs::metadata(QEMU_CONF)
        .and_then(|found| found.modified())
        .map_or(0, |at| {
            at.duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        });
    format!(
        "{} {} {} {} {file_system} {settings}",
        kernel.trim(),
        machine.hypervisor,
        machine.library,
        accelerator.as_str()
    )
}

/// Returns what is remembered for this machine, else runs the test; with `run` false it only remembers.
pub async fn self_test(
    drivers: &Drivers,
    layout: &Layout,
    accelerator: AcceleratorChoice,
    run: bool,
) -> Result<Option<SelfTest>, LabError> {
    let machine = drivers.hypervisor.inventory.machine().await?;
    let key = key(&machine, layout, accelerator);
    let cache = layout.self_test_cache();
    let remembered = || -> Option<SelfTest> {
        let bytes = std::fs::read(&cache).ok()?;
        let known: SelfTest = serde_json::from_slice(&bytes).ok()?;
        (known.key == key).then_some(known)
    };
    let known = remembered();
    if known.is_some() || !run {
        return Ok(known);
    }
    let lab = LabRecord {
        uuid: Uuid::new_v5(&machine.uuid, NAME.as_bytes()),
        name: NAME.parse().map_err(|_| unexpected("a name"))?,
        topology: NAME.parse().map_err(|_| unexpected("a name"))?,
        scale: Scale::FULL,
        accelerator,
        shift: 0,
        time_scale: 1,
        state: Some(layout.state().to_owned()),
    };
    // Two labs' first baselines may be taken at once: one twin tests, and the other reads what it found.
    let _lock = Lock::own_lab(
        lab.uuid,
        NAME,
        "self-test",
        (4 * DEADLINE, drivers.clock.as_ref()),
    )
    .await?;
    if let Some(known) = remembered() {
        return Ok(Some(known));
    }
    let trial = Trial::new(drivers, layout, lab)?;
    let outcome = trial.run().await;
    trial.clear().await?;
    let failure = match outcome {
        Ok(()) => None,
        // A machine on which nothing can be started has other troubles than this, and perhaps not for long: it is not
        // remembered.
        Err(Fault::Lab(error)) => {
            return Ok(Some(SelfTest {
                key,
                failure: Some(error.to_string()),
            }));
        }
        Err(Fault::Test(why)) => Some(why),
    };
    let found = SelfTest { key, failure };
    let text = serde_json::to_vec_pretty(&found).unwrap_or_default();
    storage::write_shared(&cache, &text)
        .map_err(LabError::io(format!("writing {}", cache.display())))?;
    Ok(Some(found))
}

fn unexpected(what: &str) -> LabError {
    LabError::io(what.to_owned())(std::io::Error::other("unexpected"))
}

enum Fault {
    Lab(LabError),
    Test(String),
}

impl From<LabError> for Fault {
    fn from(error: LabError) -> Self {
        Self::Lab(error)
    }
}

impl From<HypervisorError> for Fault {
    fn from(error: HypervisorError) -> Self {
        Self::Lab(error.into())
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Test(error.to_string())
    }
}

struct Trial<'t> {
    drivers: &'t Drivers,
    layout: &'t Layout,
    directory: PathBuf,
    domain: Marked<DomainSpec>,
}

impl<'t> Trial<'t> {
    fn new(drivers: &'t Drivers, layout: &'t Layout, lab: LabRecord) -> Result<Self, LabError> {
        let directory = layout.lab(lab.uuid);
        layout.make_lab(&lab)?;
        let disk = DiskSpec {
            path: directory.join("disk.qcow2"),
            backing: None,
            size: Mib(1),
            scratch: true,
        };
        let spec = DomainSpec {
            name: NAME.into(),
            uuid: Uuid::new_v5(&lab.uuid, b"host"),
            memory: Mib(64),
            vcpus: 1,
            accelerator: lab.accelerator,
            ram: RamBacking::File,
            boot: Boot::Disk,
            disks: vec![disk],
            seed_iso: None,
            nics: Vec::new(),
            channel: directory.join("guest.sock"),
            serial_log: directory.join("serial.log"),
            config: None,
            autostart: false,
        };
        let mark = Mark {
            thing: lab.name.clone(),
            spec: serde_json::to_value(&spec).unwrap_or_default(),
            lab,
        };
        Ok(Self {
            drivers,
            layout,
            directory,
            domain: Marked { spec, mark },
        })
    }

    fn target(&self) -> Target {
        Target {
            uuid: self.domain.spec.uuid,
            lab: self.domain.mark.lab.uuid,
        }
    }

    async fn run(&self) -> Result<(), Fault> {
        let hypervisor = &self.drivers.hypervisor;
        hypervisor.domain.remove_domain(self.target()).await?;
        self.disk().await?;
        hypervisor.domain.define_domain(&self.domain).await?;
        hypervisor.capture.start_paused(self.target()).await?;
        let live = hypervisor.inspection.anatomy(self.target()).await?.ram_file;
        let live = live.ok_or_else(|| Fault::Test("libvirt gives no memory file".into()))?;
        let golden = self.directory.join("golden.ram");
        let way = if live
            .path()
            .parent()
            .is_some_and(|from| can_reflink(from, &self.directory))
        {
            Way::Reflink
        } else {
            Way::Copy
        };
        // It runs its code once it says zeros.
        self.go_on_until("the VM says nothing", 0, |said| said.len() > 256)
            .await?;
        let (first, second) = (nonce(), nonce());
        write(&live, &first)?;
        hypervisor
            .capture
            .capture(self.target(), NAME, Memory::File)
            .await?;
        files::preserve(&live.open()?, &golden, way)?;
        write(&live, &second)?;
        let length = self.said_bytes()?;
        let saw = |what: [u8; 16]| move |said: &[u8]| count(said, &what) >= 2;
        self.go_on_until(
            "what is written to its memory file does not reach it",
            length,
            saw(second),
        )
        .await?;
        // Where little differs no blocks are shared otherwise, and whether that reaches the VM is to be seen.
        files::put_back(&golden, &live.open_writable()?, way, 0)?;
        hypervisor
            .capture
            .load(self.target(), NAME, Memory::File)
            .await?;
        let length = self.said_bytes()?;
        self.go_on_until(
            "memory that was put back does not reach it",
            length,
            saw(first),
        )
        .await?;
        let said = self.said(length)?;
        // The port may have had one more round of the old ones in it.
        if count(&said, &second) > 1 {
            return Err(Fault::Test(
                "it still has memory from after the capture".into(),
            ));
        }
        Ok(())
    }

    /// Makes a disk that holds the code.
    async fn disk(&self) -> Result<(), Fault> {
        let mut sector = [0u8; 512];
        sector[..CODE.len()].copy_from_slice(&CODE);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let raw = self.directory.join("sector.raw");
        let mut image = sector.to_vec();
        image.resize(1 << 20, 0);
        std::fs::write(&raw, image)?;
        let Some(disk) = self.domain.spec.disks.first() else {
            return Ok(());
        };
        let (start, words) = tools::limited("qemu-img", Limits::IMAGE, None);
        let convert = tokio::process::Command::new(start)
            .args(words)
            .args(["convert", "-q", "-f", "raw", "-O", "qcow2", "--"])
            .args([&raw, &disk.path])
            .kill_on_drop(true)
            .output()
            .await?;
        if !convert.status.success() {
            let why = String::from_utf8_lossy(&convert.stderr).trim().to_owned();
            return Err(Fault::Test(format!("qemu-img: {why}")));
        }
        Ok(std::fs::set_permissions(
            &disk.path,
            std::fs::Permissions::from_mode(0o600),
        )?)
    }

    /// Lets the VM run until it has said what is asked for behind `from`, and stops it again.
    async fn go_on_until(
        &self,
        otherwise: &str,
        from: u64,
        enough: impl Fn(&[u8]) -> bool,
    ) -> Result<(), Fault> {
        let (hypervisor, clock) = (&self.drivers.hypervisor, &self.drivers.clock);
        hypervisor
            .domain
            .power(self.target(), PowerAction::Resume)
            .await?;
        let until = clock.elapsed() + DEADLINE;
        while !enough(&self.said(from)?) {
            if clock.elapsed() > until {
                return Err(Fault::Test(otherwise.to_owned()));
            }
            clock.sleep(LOOK).await;
        }
        Ok(hypervisor
            .domain
            .power(self.target(), PowerAction::Suspend)
            .await?)
    }

    fn said_bytes(&self) -> std::io::Result<u64> {
        Ok(std::fs::metadata(&self.domain.spec.serial_log)?.len())
    }

    fn said(&self, from: u64) -> std::io::Result<Vec<u8>> {
        let mut log = match std::fs::File::open(&self.domain.spec.serial_log) {
            Ok(log) => log,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        log.seek(SeekFrom::Start(from))?;
        let mut said = Vec::new();
        log.read_to_end(&mut said)?;
        Ok(said)
    }

    async fn clear(&self) -> Result<(), LabError> {
        self.drivers
            .hypervisor
            .domain
            .remove_domain(self.target())
            .await?;
        self.layout.clear_self_test(self.domain.mark.lab.uuid)
    }
}

fn nonce() -> [u8; 16] {
    Uuid::new_v4().into_bytes()
}

fn write(memory: &Guarded, nonce: &[u8]) -> std::io::Result<()> {
    memory.open_writable()?.write_all_at(nonce, PLACE)
}

fn count(said: &[u8], nonce: &[u8]) -> usize {
    said.windows(nonce.len())
        .filter(|window| *window == nonce)
        .count()
}
