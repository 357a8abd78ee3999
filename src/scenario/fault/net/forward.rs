//! `forward-policy`: this machine refuses, or drops, what goes from one of the lab's networks to another, in a table of the lab's
//! own and before any other rule.

use crate::hostnet::Forbidden;
use crate::plan::table_name;
use crate::scenario::fault::prelude::*;

/// This machine `refuse`s or `drop`s what goes from one network to another, in the lab's own table.
///
/// Revert: removes the chain, and the table with its last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ForwardPolicy {
    /// A network.
    from: Name,
    /// Another.
    to: Name,
    policy: Policy,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    /// The chain that is made, of a name that nothing has.
    chain: String,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    Refuse,
    Drop,
}

fn footprint() -> Footprint {
    Footprint::of_machine().owns(&[MACHINE, "forward"])
}

impl ForwardPolicy {
    fn forbidden(&self, world: &World) -> Result<Forbidden, FaultError> {
        Ok(Forbidden {
            from: world.bridge(&self.from)?.to_owned(),
            to: world.bridge(&self.to)?.to_owned(),
            refused: self.policy == Policy::Refuse,
        })
    }
}

impl Fault for ForwardPolicy {
    const NAME: &'static str = "forward-policy";
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        if self.from != self.to {
            return Ok(());
        }
        let why = "nothing is forwarded within a network";
        Err(Mistake::of("to", "network to forward to", why))
    }

    fn describe(&self) -> String {
        let word = if self.policy == Policy::Refuse {
            "refuse"
        } else {
            "drop"
        };
        format!("{word} what goes from {} to {}", self.from, self.to)
    }

    fn footprint(&self) -> Footprint {
        footprint()
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        self.forbidden(world)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let chain = format!("fwd_{}", &id[..12]);
        Ok(Before { chain })
    }

    async fn inject(
        &self,
        world: &World,
        captured: &Before,
        _: Duration,
    ) -> Result<(), FaultError> {
        let Before { chain } = captured;
        let table = table_name(world.found.record.uuid);
        let forbidden = self.forbidden(world)?;
        let hostnet = &world.drivers.hostnet;
        Ok(hostnet.firewall.forbid(&table, chain, &forbidden).await?)
    }

    async fn verify(&self, world: &World, captured: &Before) -> Result<Effectiveness, FaultError> {
        let Before { chain } = captured;
        let table = table_name(world.found.record.uuid);
        let counted = world
            .drivers
            .hostnet
            .firewall
            .dropped(&table, chain)
            .await?;
        let word = if counted.is_some() { "is" } else { "is not" };
        let seen = format!("chain {chain} of {table} {word} there");
        Ok(Effectiveness::new(counted.is_some(), seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint()
    }

    fn describe(&self) -> String {
        format!("removes chain {} from the lab's table", self.chain)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { chain } = self;
        super::partition::mend(world, chain).await
    }
}
