//! The libvirt driver.
//!
//! libvirt's calls block, so threads of our own make them: one for quick calls, a few for long ones (start, destroy,
//! define). Handles stay in those threads. Each call has a deadline. A call that passes it goes on in its thread; the
//! caller gets [`HypervisorError::Deadline`], which says that the outcome is unknown.

mod at_boot;
mod capture;
mod domains;
mod emulator;
mod failure;
mod ffi;
mod memory;
mod monitor;
mod networks;
mod nics;
mod place;
mod tsc;
mod worker;
mod xml;

pub use at_boot::{autostarted, running};

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Anatomy, Capture, Devices, DiskState, Domains, FilesOf, HypervisorError, Inspection, Inventory,
    Machine, Memory, Networks, NicState, ObservedDomain, ObservedNetwork, Power, PowerAction,
    Target, Throttle,
};
use crate::model::spec::{DomainSpec, Marked, NetworkSpec, NicSpec};
use crate::units::{Mac, Mib};
use worker::Workers;

/// The readers of what libvirt and QEMU say, for `fuzz/`.
#[cfg(fuzzing)]
pub mod readers {
    use super::{capture, monitor, xml};

    /// Reads an answer of QEMU's monitor, beside the domain's definition.
    pub fn answer(text: &str, definition: &str) {
        let Ok(answer) = monitor::answer("an answer", text) else {
            return;
        };
        drop(capture::version_of(&answer));
        if let Ok(blocks) = monitor::written(answer) {
            let _ = monitor::limits_of(&blocks);
            drop(capture::nodes_in(&blocks, definition));
        }
    }

    /// Reads a definition in each way that there is.
    pub fn definition(text: &str) {
        drop((
            xml::mark(text),
            xml::mark_in_element(text),
            xml::identity(text),
        ));
        drop((xml::paths(text), xml::emulator(text), xml::disk_files(text)));
        drop((
            xml::writable_disks(text),
            xml::bridge_and_subnet(text),
            xml::console(text),
        ));
        drop((
            xml::parts(text),
            xml::interface(text, "52:54:00:00:00:01".parse().expect("a MAC")),
        ));
        let once = xml::devices(text);
        assert_eq!(
            once,
            xml::devices(text),
            "the same text has the same devices"
        );
        if let Some(written) = xml::with_link(text, false) {
            assert!(roxmltree::Document::parse(&written).is_ok(), "{written}");
        }
    }
}

/// A call that only reads returns within this.
const QUICK: Duration = Duration::from_secs(20);

/// Starting, destroying and defining return within this, also when many run at once under emulation.
const LONG: Duration = Duration::from_secs(180);

/// Saving or loading state, memory included, returns within this.
const STATE: Duration = Duration::from_secs(900);

/// Long calls that may run at once, each on a connection of its own: a whole lab stands still together.
const LONG_THREADS: usize = 8;

/// A connection to libvirt.
pub struct Libvirt {
    uri: String,
    quick: Workers,
    long: Workers,
}

impl Libvirt {
    /// Makes the driver; the connection is opened by the first call.
    pub fn new(uri: &str) -> Self {
        // Otherwise the library prints every error to standard error by itself.
        virt::error::clear_error_callback();
        Self {
            uri: uri.to_owned(),
            quick: Workers::start(uri, 1),
            long: Workers::start(uri, LONG_THREADS),
        }
    }
}

fn version_text(number: u32) -> String {
    format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 1000 % 1000,
        number % 1000
    )
}

#[async_trait]
impl Inventory for Libvirt {
    async fn machine(&self) -> Result<Machine, HypervisorError> {
        let uri = self.uri.clone();
        self.quick
            // libvirt may start each emulator first, to learn what it can do.
            .call("reading the capabilities", LONG, move |connection| {
                let capabilities = connection.get_capabilities()?;
                let info = connection.get_node_info()?;
                let kind = connection.get_type()?;
                let version = connection.get_hyp_version()?;
                let library = connection.get_lib_version()?;
                let document = roxmltree::Document::parse(&capabilities).ok();
                let models = document.iter().flat_map(|document| {
                    document
                        .descendants()
                        .filter(|node| node.has_tag_name("secmodel"))
                });
                let place = place::of(&uri, connection, document.as_ref());
                Ok(Machine {
                    uuid: place.uuid,
                    elsewhere: place.elsewhere,
                    hypervisor: format!("{kind} {}", version_text(version)),
                    library: format!("libvirt {}", version_text(library)),
                    cpus: info.cpus,
                    memory: Mib(info.memory / 1024),
                    security_models: models
                        .filter_map(|node| {
                            node.children()
                                .find(|child| child.has_tag_name("model"))?
                                .text()
                                .map(str::to_owned)
                        })
                        .filter(|model| model != "none")
                        .collect(),
                })
            })
            .await
    }

    async fn networks(&self) -> Result<Vec<ObservedNetwork>, HypervisorError> {
        self.quick
            .call("listing networks", QUICK, networks::list)
            .await
    }

    async fn domains(&self) -> Result<Vec<ObservedDomain>, HypervisorError> {
        self.quick
            .call("listing domains", QUICK, domains::list)
            .await
    }

    async fn files(&self) -> Result<Vec<FilesOf>, HypervisorError> {
        self.quick
            .call("listing the files of domains", QUICK, domains::files)
            .await
    }
}

#[async_trait]
impl Networks for Libvirt {
    async fn define_network(&self, network: &Marked<NetworkSpec>) -> Result<(), HypervisorError> {
        let network = network.clone();
        let what = format!("defining network {}", network.spec.name);
        self.long
            .call(&what, LONG, move |connection| {
                networks::define(connection, &network)
            })
            .await
    }

    async fn start_network(&self, target: Target) -> Result<(), HypervisorError> {
        self.long
            .call("starting a network", LONG, move |connection| {
                networks::start(connection, target)
            })
            .await
    }

    async fn remove_network(&self, target: Target) -> Result<(), HypervisorError> {
        self.long
            .call("removing a network", LONG, move |connection| {
                networks::remove(connection, target)
            })
            .await
    }
}

#[async_trait]
impl Domains for Libvirt {
    async fn define_domain(&self, domain: &Marked<DomainSpec>) -> Result<(), HypervisorError> {
        let domain = domain.clone();
        let what = format!("defining domain {}", domain.spec.name);
        self.long
            .call(&what, LONG, move |connection| {
                domains::define(connection, &domain)
            })
            .await
    }

    async fn power(&self, target: Target, action: PowerAction) -> Result<(), HypervisorError> {
        let what = match action {
            PowerAction::Start => "starting a domain",
            PowerAction::Shutdown => "shutting a domain down",
            PowerAction::Destroy => "destroying a domain",
            PowerAction::Kill => "killing a domain's process",
            PowerAction::Reset => "resetting a domain",
            PowerAction::Suspend => "suspending a domain",
            PowerAction::Resume => "resuming a domain",
        };
        self.long
            .call(what, LONG, move |connection| {
                domains::power(connection, target, action)
            })
            .await
    }

    async fn power_state(&self, target: Target) -> Result<Power, HypervisorError> {
        self.quick
            .call("reading a domain's state", QUICK, move |connection| {
                domains::power_state(connection, target)
            })
            .await
    }

    async fn autostart(&self, target: Target) -> Result<bool, HypervisorError> {
        self.quick
            .call("reading a domain's autostart", QUICK, move |connection| {
                Ok(domains::ours(connection, target)?.get_autostart()?)
            })
            .await
    }

    async fn set_autostart(&self, target: Target, autostart: bool) -> Result<(), HypervisorError> {
        self.quick
            .call("setting a domain's autostart", QUICK, move |connection| {
                domains::ours(connection, target)?.set_autostart(autostart)?;
                Ok(())
            })
            .await
    }

    async fn remove_domain(&self, target: Target) -> Result<(), HypervisorError> {
        self.long
            .call("removing a domain", LONG, move |connection| {
                domains::remove(connection, target)
            })
            .await
    }

    async fn console(&self, target: Target) -> Result<PathBuf, HypervisorError> {
        self.quick
            .call("finding a console", QUICK, move |connection| {
                domains::console(connection, target)
            })
            .await
    }

    async fn agent(
        &self,
        target: Target,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HypervisorError> {
        let command = command.to_owned();
        self.long
            .call(
                "asking the guest agent",
                deadline + Duration::from_secs(5),
                move |connection| domains::agent(connection, target, &command, deadline),
            )
            .await
    }
}

#[async_trait]
impl Devices for Libvirt {
    async fn balloon(&self, target: Target) -> Result<Mib, HypervisorError> {
        self.quick
            .call("reading a domain's balloon", QUICK, move |connection| {
                domains::balloon(connection, target)
            })
            .await
    }

    async fn set_balloon(&self, target: Target, memory: Mib) -> Result<(), HypervisorError> {
        self.quick
            .call("setting a domain's balloon", QUICK, move |connection| {
                domains::set_balloon(connection, target, memory)
            })
            .await
    }

    async fn throttle(&self, target: Target) -> Result<Throttle, HypervisorError> {
        self.quick
            .call("reading what disks may do", QUICK, move |connection| {
                monitor::throttle(connection, target)
            })
            .await
    }

    async fn set_throttle(
        &self,
        target: Target,
        throttle: Throttle,
    ) -> Result<(), HypervisorError> {
        self.quick
            .call("setting what disks may do", QUICK, move |connection| {
                monitor::set_throttle(connection, target, throttle)
            })
            .await
    }

    async fn nic(&self, target: Target, mac: Mac) -> Result<NicState, HypervisorError> {
        self.quick
            .call("reading an interface", QUICK, move |connection| {
                nics::nic(connection, target, mac)
            })
            .await
    }

    async fn set_nic(
        &self,
        target: Target,
        mac: Mac,
        state: NicState,
    ) -> Result<(), HypervisorError> {
        self.long
            .call("changing an interface", LONG, move |connection| {
                nics::set_nic(connection, target, mac, state)
            })
            .await
    }

    async fn attach_nic(&self, target: Target, nic: &NicSpec) -> Result<(), HypervisorError> {
        let nic = nic.clone();
        self.long
            .call("plugging an interface in", LONG, move |connection| {
                nics::attach(connection, target, &nic)
            })
            .await
    }

    async fn detach_nic(&self, target: Target, mac: Mac) -> Result<(), HypervisorError> {
        self.long
            .call("unplugging an interface", LONG, move |connection| {
                nics::detach(connection, target, mac)
            })
            .await
    }
}

#[async_trait]
impl Inspection for Libvirt {
    async fn anatomy(&self, target: Target) -> Result<Anatomy, HypervisorError> {
        self.long
            .call("reading a domain's parts", LONG, move |connection| {
                capture::anatomy(connection, target)
            })
            .await
    }

    async fn emulator(&self, definition: &str) -> Result<String, HypervisorError> {
        let definition = definition.to_owned();
        let read = move || emulator::version(&definition);
        let read = tokio::task::spawn_blocking(read).await;
        let why = match read {
            Ok(Ok(version)) => return Ok(version),
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        Err(HypervisorError::Refused {
            what: "asking an emulator for its version".into(),
            why,
        })
    }

    async fn examine(
        &self,
        disks: &[PathBuf],
        state: &str,
        content: bool,
    ) -> Result<Vec<Result<DiskState, String>>, HypervisorError> {
        let (disks, state) = (disks.to_vec(), state.to_owned());
        let read = move || {
            disks
                .iter()
                .map(|disk| capture::examine(disk, &state, content))
                .collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| HypervisorError::Refused {
                what: "reading captured states".into(),
                why: error.to_string(),
            })
    }
}

#[async_trait]
impl Capture for Libvirt {
    async fn start_paused(&self, target: Target) -> Result<(), HypervisorError> {
        self.long
            .call("starting a domain", LONG, move |connection| {
                capture::start_paused(connection, target)
            })
            .await
    }

    async fn redefine(&self, target: Target, definition: &str) -> Result<(), HypervisorError> {
        let definition = definition.to_owned();
        self.long
            .call("defining a domain", LONG, move |connection| {
                capture::redefine(connection, target, &definition)
            })
            .await
    }

    async fn write_back(&self, target: Target) -> Result<(), HypervisorError> {
        self.long
            .call("writing a domain's memory back", STATE, move |connection| {
                capture::write_back(connection, target)
            })
            .await
    }

    async fn split_folios(&self, target: Target, file: &Path) -> Result<(), HypervisorError> {
        let file = file.to_owned();
        self.long
            .call("splitting folios", QUICK, move |connection| {
                memory::split_folios(connection, target, &file)
            })
            .await
    }

    async fn capture(
        &self,
        target: Target,
        state: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError> {
        let state = state.to_owned();
        self.long
            .call("capturing a domain", STATE, move |connection| {
                capture::capture(connection, target, &state, memory)
            })
            .await
    }

    async fn load(
        &self,
        target: Target,
        state: &str,
        memory: Memory,
    ) -> Result<(), HypervisorError> {
        let state = state.to_owned();
        self.long
            .call("putting a domain back", STATE, move |connection| {
                capture::load(connection, target, &state, memory)
            })
            .await
    }

    async fn mark_crashed(&self, target: Target) -> Result<(), HypervisorError> {
        self.long
            .call(
                "making a domain count as crashed",
                LONG,
                move |connection| capture::mark_crashed(connection, target),
            )
            .await
    }

    async fn discard(&self, target: Target, state: &str) -> Result<(), HypervisorError> {
        let state = state.to_owned();
        self.long
            .call("discarding a captured state", STATE, move |connection| {
                capture::discard(connection, target, &state)
            })
            .await
    }
}
