//! `nic-detach`: takes one of a host's interfaces out while it runs, as a failed card is. The guest loses the device, its
//! addresses and its routes; attached again, it gets them back.

use std::fmt::Write as _;

use super::bandwidth::limit;
use super::down::{in_order, is_up, routes};
use super::emulate::none_by_hand;
use super::link::{set, state};
use crate::hypervisor::{NicState, Power};
use crate::scenario::fault::guest::inside;
use crate::scenario::fault::host::power_state;
use crate::scenario::fault::prelude::*;

/// How long a guest may take to let go of a device that it was asked for, and between two looks whether it has.
const LETS_GO: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

/// Takes an interface out while the host runs.
///
/// Revert: attaches it, with the addresses and routes before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NicDetach {
    host: Name,
    network: Name,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    network: String,
    was: NicState,
    mac: String,
    /// Its name in the guest.
    nic: String,
    up: bool,
    addresses: Vec<String>,
    routes: Vec<String>,
}

fn footprint(host: &str) -> Footprint {
    // What is inside the host may go through it.
    Footprint::of_host(host)
        .sets(&[MACHINE, "unplugged"])
        .reads(&[INSIDE])
        .reads(&[MEMORY])
        .reads(&[MACHINE, "links"])
}

/// The IPv4 addresses of an interface with their prefixes, in its own order.
async fn addresses(world: &World, host: &str, nic: &str) -> Result<Vec<String>, FaultError> {
    let argv = ["ip", "-4", "-o", "address", "show", "dev", nic];
    let said = inside::run(world, host, &argv).await?;
    let of = |line: &str| {
        let (_, rest) = line.split_once(" inet ")?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    Ok(said.lines().filter_map(of).collect())
}

/// Whether the guest has a device with this Ethernet address.
pub(crate) async fn is_there(world: &World, host: &str, mac: &str) -> Result<bool, FaultError> {
    let script = "grep -qix \"$1\" /sys/class/net/*/address && echo there || echo gone";
    let said = inside::run(world, host, &["sh", "-c", script, "sh", mac]).await?;
    match said.trim() {
        "there" => Ok(true),
        "gone" => Ok(false),
        other => Err(FaultError::Target(format!("{host} said {other:?}"))),
    }
}

/// The part of a script that waits for a device that was plugged in, and has its name in `$d`.
pub(crate) fn find_device(mac: &str) -> String {
    format!(
        "t=0\nwhile :; do d=$(grep -lix '{mac}' /sys/class/net/*/address || :); [ -n \"$d\" ] && break\n\
         [ $t -lt 200 ] || {{ echo 'the device did not come' >&2; exit 1; }}\nt=$((t+1)); sleep 0.1; done\n\
         d=${{d#/sys/class/net/}}; d=${{d%%/*}}\n"
    )
}

impl Fault for NicDetach {
    const NAME: &'static str = "nic-detach";
    type Prior = Before;

    fn describe(&self) -> String {
        format!(
            "take the interface of {} on {} out",
            self.host, self.network
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    /// A baseline is of hosts with all their devices.
    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let (host, network) = (&self.host, &self.network);
        let was = state(world, host, network).await?;
        if was == NicState::Out {
            return Err(FaultError::Target(format!(
                "{host} has no interface on {network} plugged in"
            )));
        }
        let none = || FaultError::Target(format!("{host} has no interface on {network}"));
        let nic = world.nic(host, network).ok_or_else(none)?.name;
        // With the device they would be gone for good.
        none_by_hand(world, host, &nic).await?;
        limit(world, host, network).await?;
        Ok(Before {
            host: host.to_string(),
            network: network.to_string(),
            was,
            mac: world.mac(host, network)?.to_string(),
            up: is_up(world, host, &nic).await?,
            addresses: addresses(world, host, &nic).await?,
            routes: routes(world, host, &nic).await?,
            nic,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        set(world, &self.host, &self.network, NicState::Out).await
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let now = state(world, &self.host, &self.network).await?;
        let there = is_there(world, &self.host, &captured.mac).await?;
        let word = if there { "has" } else { "has not" };
        let seen = format!(
            "libvirt says of it: {now:?}; {} {word} the device",
            self.host
        );
        Ok(Effectiveness::new(now == NicState::Out && !there, seen))
    }
}

/// Plugs it in again. A detach that was given up on its way may still come about: the guest lets go when it gets to it.
async fn attach(world: &World, captured: &Before) -> Result<(), FaultError> {
    let Before {
        host, network, was, ..
    } = captured;
    let clock = &world.drivers.clock;
    let until = clock.elapsed() + LETS_GO;
    loop {
        let out = state(world, host, network).await? == NicState::Out;
        set(world, host, network, *was).await?;
        if out || clock.elapsed() >= until {
            return Ok(());
        }
        clock.sleep(LOOK).await;
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        let Self {
            host,
            network,
            addresses,
            routes,
            ..
        } = self;
        let (addresses, routes) = (addresses.len(), routes.len());
        format!(
            "plugs the interface of {host} on {network} in, with {addresses} addresses and {routes} routes"
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self {
            host,
            mac,
            nic,
            up,
            addresses: had,
            ..
        } = self;
        // An older twin's are not.
        let mut led = self.routes.clone();
        in_order(&mut led);
        let power = power_state(world, host).await?;
        if power == Power::ShutOff || power == Power::Crashed {
            return Ok(format!("{host} is off, and starts with all its interfaces"));
        }
        attach(world, self).await?;
        // The guest finds the device when it gets to it, perhaps under another name.
        let mut script = find_device(mac);
        // Writing to a String does not fail.
        let _ = writeln!(
            script,
            "[ \"$d\" = {nic} ] || ip link set dev \"$d\" name {nic}"
        );
        for address in had {
            let _ = writeln!(script, "ip address replace {address} dev {nic}");
        }
        if *up {
            let _ = writeln!(script, "ip link set dev {nic} up");
            for route in &led {
                let _ = writeln!(script, "ip route replace {route} dev {nic}");
            }
        }
        inside::script(world, host, &script).await?;
        let (has, leads) = (
            addresses(world, host, nic).await?,
            routes(world, host, nic).await?,
        );
        if has == *had && (!up || leads == led) {
            return Ok(format!(
                "{nic} of {host} is there, its addresses and routes as before"
            ));
        }
        Err(FaultError::Target(format!(
            "{nic} of {host} has {has:?} and {leads:?}, and had {had:?} and {led:?}"
        )))
    }

    async fn revert_outside(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, network, .. } = self;
        let power = power_state(world, host).await?;
        if power != Power::ShutOff && power != Power::Crashed {
            attach(world, self).await?;
        }
        Ok(format!(
            "the interface of {host} on {network} is plugged in"
        ))
    }
}
