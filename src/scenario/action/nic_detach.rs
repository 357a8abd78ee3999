//! `nic-detach`: takes one of a host's interfaces out while it runs, as a failed card is. The guest loses the device, its
//! addresses and its routes; attached again, it gets them back.

use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::contract::{Action, Verified};
use super::host_power::power_state;
use super::inside;
use super::net_emulate::none_by_hand;
use super::nic_bandwidth::limit;
use super::nic_down::{in_order, is_up, routes};
use super::nic_link::{set, state};
use crate::diagnostics::{Node, Reader};
use crate::hypervisor::{NicState, Power};
use crate::scenario::arguments::{host_of, network_of};
use crate::scenario::footprint::{Footprint, INSIDE, MACHINE, MEMORY};
use crate::scenario::{ActionError, World};

pub(super) const NAME: &str = "nic-detach";

/// How long a guest may take to let go of a device that it was asked for, and between two looks whether it has.
const LETS_GO: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct NicDetach {
    host: String,
    network: String,
}

#[derive(Serialize, Deserialize)]
struct Captured {
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

pub(super) fn parse(node: &Node, reader: &mut Reader) -> Option<Box<dyn Action>> {
    let mut fields = reader.fields(node, NAME)?;
    let host = host_of(&mut fields, reader);
    let network = network_of(&mut fields, "network", reader);
    fields.finish(reader);
    Some(Box::new(NicDetach {
        host: host?,
        network: network?,
    }))
}

/// The IPv4 addresses of an interface with their prefixes, in its own order.
async fn addresses(world: &World, host: &str, nic: &str) -> Result<Vec<String>, ActionError> {
    let argv = ["ip", "-4", "-o", "address", "show", "dev", nic];
    let said = inside::run(world, host, &argv).await?;
    let of = |line: &str| {
        let (_, rest) = line.split_once(" inet ")?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    Ok(said.lines().filter_map(of).collect())
}

/// Whether the guest has a device with this Ethernet address.
pub(super) async fn is_there(world: &World, host: &str, mac: &str) -> Result<bool, ActionError> {
    let script = "grep -qix \"$1\" /sys/class/net/*/address && echo there || echo gone";
    let said = inside::run(world, host, &["sh", "-c", script, "sh", mac]).await?;
    match said.trim() {
        "there" => Ok(true),
        "gone" => Ok(false),
        other => Err(ActionError::Target(format!("{host} said {other:?}"))),
    }
}

/// The part of a script that waits for a device that was plugged in, and has its name in `$d`.
pub(super) fn find_device(mac: &str) -> String {
    format!(
        "t=0\nwhile :; do d=$(grep -lix '{mac}' /sys/class/net/*/address || :); [ -n \"$d\" ] && break\n\
         [ $t -lt 200 ] || {{ echo 'the device did not come' >&2; exit 1; }}\nt=$((t+1)); sleep 0.1; done\n\
         d=${{d#/sys/class/net/}}; d=${{d%%/*}}\n"
    )
}

#[async_trait]
impl Action for NicDetach {
    fn name(&self) -> &'static str {
        NAME
    }

    fn hosts(&self) -> Vec<&str> {
        vec![&self.host]
    }

    fn describe(&self) -> String {
        format!(
            "take the interface of {} on {} out",
            self.host, self.network
        )
    }

    /// A baseline is of hosts with all their devices.
    async fn capture(&self, world: &World) -> Result<serde_json::Value, ActionError> {
        let (host, network) = (&self.host, &self.network);
        let was = state(world, host, network).await?;
        if was == NicState::Out {
            return Err(ActionError::Target(format!(
                "{host} has no interface on {network} plugged in"
            )));
        }
        let none = || ActionError::Target(format!("{host} has no interface on {network}"));
        let nic = world.nic(host, network).ok_or_else(none)?.name;
        // With the device they would be gone for good.
        none_by_hand(world, host, &nic).await?;
        limit(world, host, network).await?;
        Ok(serde_json::to_value(Captured {
            host: host.clone(),
            network: network.clone(),
            was,
            mac: world.mac(host, network)?.to_string(),
            up: is_up(world, host, &nic).await?,
            addresses: addresses(world, host, &nic).await?,
            routes: routes(world, host, &nic).await?,
            nic,
        })?)
    }

    async fn act(
        &self,
        world: &World,
        _: &serde_json::Value,
        _: Duration,
    ) -> Result<(), ActionError> {
        set(world, &self.host, &self.network, NicState::Out).await
    }

    async fn verify(
        &self,
        world: &World,
        captured: &serde_json::Value,
    ) -> Result<Verified, ActionError> {
        let captured: Captured = serde_json::from_value(captured.clone())?;
        let now = state(world, &self.host, &self.network).await?;
        let there = is_there(world, &self.host, &captured.mac).await?;
        let word = if there { "has" } else { "has not" };
        let seen = format!(
            "libvirt says of it: {now:?}; {} {word} the device",
            self.host
        );
        Ok(Verified::new(now == NicState::Out && !there, seen))
    }
}

/// Plugs it in again. A detach that was given up on its way may still come about: the guest lets go when it gets to it.
async fn attach(world: &World, captured: &Captured) -> Result<(), ActionError> {
    let Captured {
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

/// The part of the undo that is done to this machine; what is inside the guest is put back by a baseline.
pub(super) async fn undo_outside(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let captured: Captured = serde_json::from_value(captured)?;
    let Captured { host, network, .. } = &captured;
    let power = power_state(world, host).await?;
    if power != Power::ShutOff && power != Power::Crashed {
        attach(world, &captured).await?;
    }
    Ok(format!(
        "the interface of {host} on {network} is plugged in"
    ))
}

pub(super) async fn undo(
    world: &World,
    captured: serde_json::Value,
) -> Result<String, ActionError> {
    let mut captured: Captured = serde_json::from_value(captured)?;
    // An older twin's are not.
    in_order(&mut captured.routes);
    let Captured {
        host,
        mac,
        nic,
        up,
        addresses: had,
        routes: led,
        ..
    } = &captured;
    let power = power_state(world, host).await?;
    if power == Power::ShutOff || power == Power::Crashed {
        return Ok(format!("{host} is off, and starts with all its interfaces"));
    }
    attach(world, &captured).await?;
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
        for route in led {
            let _ = writeln!(script, "ip route replace {route} dev {nic}");
        }
    }
    inside::script(world, host, &script).await?;
    let (has, leads) = (
        addresses(world, host, nic).await?,
        routes(world, host, nic).await?,
    );
    if has == *had && (!up || leads == *led) {
        return Ok(format!(
            "{nic} of {host} is there, its addresses and routes as before"
        ));
    }
    Err(ActionError::Target(format!(
        "{nic} of {host} has {has:?} and {leads:?}, and had {had:?} and {led:?}"
    )))
}

/// What it sets, and what its revert relies on.
pub(super) fn footprint(_: &serde_json::Value) -> Footprint {
    // What is inside the host may go through it.
    Footprint::default()
        .sets(&[MACHINE, "unplugged"])
        .reads(&[INSIDE])
        .reads(&[MEMORY])
        .reads(&[MACHINE, "links"])
}
