//! Drivers that go wrong on purpose, over any drivers: a call is refused, half done, pretended, delayed or done twice.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::guest::{ClockReading, Greeting, Guest, GuestError, Program};
use crate::hostnet::{
    Bandwidth, Cut, Firewall, Forbidden, HostNet, HostNetError, Link, Links, Network, Rejection,
    Route,
};
use crate::hypervisor::{
    Anatomy, Capture, Devices, DiskState, Domains, Hypervisor, HypervisorError, Inspection, Memory,
    Networks, NicState, Power, PowerAction, Target, Throttle,
};
use crate::lab::{Drivers, GuestWays, Way};
use crate::model::spec::{DomainSpec, Marked, NetworkSpec, NicSpec};
use crate::units::{Cidr, Mac, Mib};
use crate::wire::{GuestState, KernelLine, Request};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out.
    #[default]
    Done,
    /// It fails, and nothing is done.
    Refused,
    /// It is carried out, and fails all the same: the answer was lost.
    DoneAndFailed,
    /// Nothing is done, and it succeeds. What is only read is read.
    Pretended,
    /// It is carried out twice.
    Twice,
    /// It is carried out after this time.
    Late(Duration),
}

/// Decides on the fate of a call by its name, such as `power`.
pub type Decide = Arc<dyn Fn(&str) -> Fate + Send + Sync>;

/// A driver whose calls go wrong.
struct Faulty<D: ?Sized> {
    driver: Arc<D>,
    clock: Arc<dyn Clock>,
    decide: Decide,
}

/// Wraps drivers. What lists the hypervisor's things, sees the network, or reads a guest's clock and log is carried out.
pub fn faulty(drivers: Drivers, decide: &Decide) -> Drivers {
    let Drivers {
        hypervisor,
        hostnet,
        guests,
        ..
    } = drivers.clone();
    let clock = &drivers.clock;
    Drivers {
        hypervisor: Hypervisor {
            network: wrap(hypervisor.network, clock, decide),
            domain: wrap(hypervisor.domain, clock, decide),
            devices: wrap(hypervisor.devices, clock, decide),
            inspection: wrap(hypervisor.inspection, clock, decide),
            capture: wrap(hypervisor.capture, clock, decide),
            ..hypervisor
        },
        hostnet: HostNet {
            links: wrap(hostnet.links, clock, decide),
            firewall: wrap(hostnet.firewall, clock, decide),
            ..hostnet
        },
        guests: wrap(guests, clock, decide),
        ..drivers
    }
}

fn wrap<D: ?Sized>(driver: Arc<D>, clock: &Arc<dyn Clock>, decide: &Decide) -> Arc<Faulty<D>> {
    Arc::new(Faulty {
        driver,
        clock: Arc::clone(clock),
        decide: Arc::clone(decide),
    })
}

impl<D: ?Sized> Faulty<D> {
    /// The fate of a call; one that is late has waited when this returns.
    async fn fate(&self, call: &str) -> Fate {
        match (self.decide)(call) {
            Fate::Late(time) => {
                self.clock.sleep(time).await;
                Fate::Done
            }
            fate => fate,
        }
    }
}

trait Refused {
    fn refused(call: &str) -> Self;
}

const WHY: &str = "it goes wrong on purpose";

impl Refused for HypervisorError {
    fn refused(call: &str) -> Self {
        Self::Refused {
            what: call.to_owned(),
            why: WHY.to_owned(),
        }
    }
}

impl Refused for HostNetError {
    fn refused(call: &str) -> Self {
        Self::Failed {
            what: call.to_owned(),
            why: WHY.to_owned(),
        }
    }
}

impl Refused for GuestError {
    fn refused(call: &str) -> Self {
        Self::Refused {
            why: format!("{call}: {WHY}"),
        }
    }
}

/// Implements a seam: calls that change something, and calls that read.
macro_rules! seam {
    (
        $seam:ident $error:ident
        changes { $($change:ident($($given:ident: $of:ty),*) -> $becomes:ty;)* }
        reads { $($read:ident($($asked:ident: $kind:ty),*) -> $answer:ty;)* }
    ) => {
        #[async_trait]
        impl $seam for Faulty<dyn $seam> {
            $(async fn $change(&self, $($given: $of),*) -> Result<$becomes, $error> {
                let call = stringify!($change);
                match self.fate(call).await {
                    Fate::Refused => Err($error::refused(call)),
                    Fate::Pretended => Ok(Default::default()),
                    Fate::DoneAndFailed => {
                        self.driver.$change($($given),*).await?;
                        Err($error::refused(call))
                    }
                    Fate::Twice => {
                        self.driver.$change($($given),*).await?;
                        self.driver.$change($($given),*).await
                    }
                    Fate::Done | Fate::Late(_) => self.driver.$change($($given),*).await,
                }
            })*

            $(async fn $read(&self, $($asked: $kind),*) -> Result<$answer, $error> {
                let call = stringify!($read);
                match self.fate(call).await {
                    Fate::Refused | Fate::DoneAndFailed => Err($error::refused(call)),
                    _ => self.driver.$read($($asked),*).await,
                }
            })*
        }
    };
}

seam! {
    Networks HypervisorError
    changes {
        define_network(network: &Marked<NetworkSpec>) -> ();
        start_network(target: Target) -> ();
        remove_network(target: Target) -> ();
    }
    reads {}
}

seam! {
    Domains HypervisorError
    changes {
        define_domain(domain: &Marked<DomainSpec>) -> ();
        power(target: Target, action: PowerAction) -> ();
        set_autostart(target: Target, autostart: bool) -> ();
        remove_domain(target: Target) -> ();
    }
    reads {
        power_state(target: Target) -> Power;
        autostart(target: Target) -> bool;
        console(target: Target) -> PathBuf;
        agent(target: Target, command: &str, deadline: Duration) -> String;
    }
}

seam! {
    Devices HypervisorError
    changes {
        set_balloon(target: Target, memory: Mib) -> ();
        set_throttle(target: Target, throttle: Throttle) -> ();
        set_nic(target: Target, mac: Mac, state: NicState) -> ();
        attach_nic(target: Target, nic: &NicSpec) -> ();
        detach_nic(target: Target, mac: Mac) -> ();
    }
    reads {
        balloon(target: Target) -> Mib;
        throttle(target: Target) -> Throttle;
        nic(target: Target, mac: Mac) -> NicState;
    }
}

seam! {
    Capture HypervisorError
    changes {
        start_paused(target: Target) -> ();
        redefine(target: Target, definition: &str) -> ();
        write_back(target: Target) -> ();
        split_folios(target: Target, file: &Path) -> ();
        capture(target: Target, state: &str, memory: Memory) -> ();
        load(target: Target, state: &str, memory: Memory) -> ();
        mark_crashed(target: Target) -> ();
        discard(target: Target, state: &str) -> ();
    }
    reads {}
}

seam! {
    Inspection HypervisorError
    changes {}
    reads {
        anatomy(target: Target) -> Anatomy;
        emulator(definition: &str) -> String;
        examine(disks: &[PathBuf], state: &str, content: bool) -> Vec<Result<DiskState, String>>;
    }
}

seam! {
    Links HostNetError
    changes {
        set_alias(link: &str, alias: &str) -> ();
        set_bandwidth(link: &str, bandwidth: &Bandwidth) -> ();
        forget_peers(bridges: &[(String, Cidr)]) -> ();
        clear_leftover(network: &Network) -> bool;
    }
    reads {
        links() -> Vec<Link>;
        routes() -> Vec<Route>;
        leases(bridge: &str) -> Vec<(Mac, Ipv4Addr)>;
        bandwidth(link: &str) -> Bandwidth;
    }
}

seam! {
    Firewall HostNetError
    changes {
        remove_table(family: &str, name: &str) -> ();
        cut(table: &str, chain: &str, cut: &Cut) -> ();
        forbid(table: &str, chain: &str, forbidden: &Forbidden) -> ();
        mend(table: &str, chain: &str) -> ();
        hold(table: &str, ports: &[String]) -> ();
    }
    reads {
        tables() -> Vec<(String, String)>;
        dropped(table: &str, chain: &str) -> Option<u64>;
        rejections(bridge: &str) -> Vec<Rejection>;
    }
}

impl GuestWays for Faulty<dyn GuestWays> {
    fn open(&self, way: &Way) -> Arc<dyn Guest> {
        wrap(self.driver.open(way), &self.clock, &self.decide)
    }
}

#[async_trait]
impl Guest for Faulty<dyn Guest> {
    async fn greet(&self, deadline: Duration) -> Result<Greeting, GuestError> {
        self.driver.greet(deadline).await
    }

    /// A program is not run twice: its streams are the caller's.
    async fn run(&self, program: Program) -> Result<i32, GuestError> {
        const CALL: &str = "run";
        match self.fate(CALL).await {
            Fate::Refused => Err(GuestError::refused(CALL)),
            Fate::Pretended => Ok(0),
            Fate::DoneAndFailed => {
                self.driver.run(program).await?;
                Err(GuestError::refused(CALL))
            }
            Fate::Done | Fate::Twice | Fate::Late(_) => self.driver.run(program).await,
        }
    }

    async fn state(&self) -> Result<GuestState, GuestError> {
        match self.fate("state").await {
            Fate::Refused | Fate::DoneAndFailed => Err(GuestError::refused("state")),
            _ => self.driver.state().await,
        }
    }

    async fn ask(&self, request: Request) -> Result<(), GuestError> {
        const CALL: &str = "ask";
        match self.fate(CALL).await {
            Fate::Refused => Err(GuestError::refused(CALL)),
            Fate::Pretended => Ok(()),
            Fate::DoneAndFailed => {
                self.driver.ask(request).await?;
                Err(GuestError::refused(CALL))
            }
            Fate::Twice => {
                self.driver.ask(request.clone()).await?;
                self.driver.ask(request).await
            }
            Fate::Done | Fate::Late(_) => self.driver.ask(request).await,
        }
    }

    async fn kernel_log(&self, after: u64) -> Result<Vec<KernelLine>, GuestError> {
        self.driver.kernel_log(after).await
    }

    async fn clock(&self, here: &dyn Clock) -> Result<ClockReading, GuestError> {
        self.driver.clock(here).await
    }

    async fn set_clock(&self, here: &dyn Clock) -> Result<(), GuestError> {
        self.driver.set_clock(here).await
    }
}
