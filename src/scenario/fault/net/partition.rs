//! `partition`: no packet goes between two sets of hosts, on no bridge of the lab and not through this machine either.

use crate::hostnet::{Cut, Side};
use crate::plan::table_name;
use crate::scenario::fault::prelude::*;

/// Drops every packet between two lists of hosts, bridged or forwarded, in the lab's own tables.
///
/// Revert: removes the chain, and the table with its last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Partition {
    /// Hosts of one side.
    between: Vec<Name>,
    /// Hosts of the other.
    and: Vec<Name>,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    /// The chain that is made, of a name that nothing has.
    chain: String,
}

fn joined(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}

/// What separates hosts.
const CUT: &[&str] = &[MACHINE, "partition"];

/// This machine's ends of some hosts' interfaces, and their addresses.
async fn side(world: &World, hosts: &[Name]) -> Result<Side, FaultError> {
    let mut side = Side::default();
    for name in hosts {
        let host = world.host(name)?;
        let target = host.target(world.found.record.uuid);
        let taps = world
            .drivers
            .hypervisor
            .inspection
            .anatomy(target)
            .await?
            .taps;
        let nics = host.config().map(|config| config.nics).unwrap_or_default();
        let addresses = nics.iter().flat_map(|nic| &nic.addresses);
        side.ports.extend(taps.into_iter().map(|(_, tap)| tap));
        side.addresses
            .extend(addresses.map(|(address, _)| *address));
        if host.spec.nics.is_empty() {
            let why = format!("{name} has no interface to cut off");
            return Err(FaultError::Target(why));
        }
        side.macs.extend(host.spec.nics.iter().map(|nic| nic.mac));
    }
    Ok(side)
}

impl Fault for Partition {
    const NAME: &'static str = "partition";
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        let both = self.between.iter().find(|name| self.and.contains(name));
        let mistake = |both| Mistake::of_all(both, "partition", "a host is on one side");
        both.map_or(Ok(()), |both| Err(mistake(both)))
    }

    fn describe(&self) -> String {
        format!(
            "cut {} off from {}",
            joined(&self.between),
            joined(&self.and)
        )
    }

    fn footprint(&self) -> Footprint {
        let hosts = self.between.iter().chain(&self.and);
        Footprint::of_hosts(hosts.map(Name::as_str), |host| host.owns(CUT))
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        for hosts in [&self.between, &self.and] {
            side(world, hosts).await?;
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let chain = format!("cut_{}", &id[..12]);
        Ok(Before { chain })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let cut = Cut {
            sides: [
                side(world, &self.between).await?,
                side(world, &self.and).await?,
            ],
        };
        let table = table_name(world.found.record.uuid);
        let hostnet = &world.drivers.hostnet;
        Ok(hostnet.firewall.cut(&table, &captured.chain, &cut).await?)
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let table = table_name(world.found.record.uuid);
        let dropped = world
            .drivers
            .hostnet
            .firewall
            .dropped(&table, &captured.chain)
            .await?;
        Ok(match dropped {
            Some(packets) => Effectiveness::new(
                true,
                format!(
                    "chain {} of {table} is there, {packets} packets dropped",
                    captured.chain
                ),
            ),
            None => Effectiveness::new(
                false,
                format!("there is no chain {} in {table}", captured.chain),
            ),
        })
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        // Its revert needs no host.
        Footprint::of_machine().owns(CUT)
    }

    fn describe(&self) -> String {
        format!("removes chain {} from the lab's table", self.chain)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { chain } = self;
        mend(world, chain).await
    }
}

/// Removes a chain of the lab's own; returns what it has dropped or refused.
pub(crate) async fn mend(world: &World, chain: &str) -> Result<String, FaultError> {
    let table = table_name(world.found.record.uuid);
    let hostnet = &world.drivers.hostnet;
    let dropped = hostnet.firewall.dropped(&table, chain).await?;
    hostnet.firewall.mend(&table, chain).await?;
    if hostnet.firewall.dropped(&table, chain).await?.is_some() {
        return Err(FaultError::Target(format!("chain {chain} is still there")));
    }
    let dropped = dropped.unwrap_or(0);
    Ok(format!(
        "chain {chain} is gone; it stopped {dropped} packets"
    ))
}
