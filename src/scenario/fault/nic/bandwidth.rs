//! `nic-bandwidth`: limits what one of a host's interfaces receives, at this machine's end of it, as a slow switch port does. What a
//! host sends is limited inside it: `net-emulate`.

use crate::hostnet::Bandwidth;
use crate::hypervisor::Power;
use crate::scenario::fault::host::power_state;
use crate::scenario::fault::prelude::*;

/// Less than this, and nothing comes through at all.
const LEAST_KBIT: u64 = 8;

/// More than any link, and the most that is counted in bits without overflow.
const MOST_KBIT: u64 = 1_000_000_000;

/// This machine lets no more than that through to a host's interface; what it sends: `net-emulate`.
///
/// Revert: the limit before; another's queueing discipline is never touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NicBandwidth {
    host: Name,
    network: Name,
    /// In thousands of bits a second.
    rate_kbit: u64,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    network: String,
    kbit: u64,
    was: Bandwidth,
}

fn footprint(host: &str, network: &str) -> Footprint {
    Footprint::of_host(host).owns(&[MACHINE, "bandwidth", network])
}

fn words(bandwidth: &Bandwidth) -> String {
    match bandwidth {
        Bandwidth::Unlimited { .. } => "anything".into(),
        Bandwidth::Limited { kbit } => format!("{kbit} kbit a second"),
        Bandwidth::Foreign { kind } => format!("what another program's {kind} lets"),
    }
}

/// How this machine's end of an interface is limited; refuses where another program has set a limit.
pub(crate) async fn limit(
    world: &World,
    host: &str,
    network: &str,
) -> Result<Bandwidth, FaultError> {
    let tap = world.tap(host, network).await?;
    match world.drivers.hostnet.links.bandwidth(&tap).await? {
        Bandwidth::Foreign { kind } => Err(FaultError::Target(format!(
            "another program has put a {kind} on {tap}, which is left alone"
        ))),
        ours => Ok(ours),
    }
}

impl Fault for NicBandwidth {
    const NAME: &'static str = "nic-bandwidth";
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        if (LEAST_KBIT..=MOST_KBIT).contains(&self.rate_kbit) {
            return Ok(());
        }
        let why = format!("it is between {LEAST_KBIT} and {MOST_KBIT}");
        Err(Mistake::of("rate-kbit", "kbit a second", why))
    }

    fn describe(&self) -> String {
        format!(
            "let {} of {} through to {}",
            words(&Bandwidth::Limited {
                kbit: self.rate_kbit
            }),
            self.network,
            self.host
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.network)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        let was = limit(world, &self.host, &self.network).await?;
        Ok(Before {
            host: self.host.to_string(),
            network: self.network.to_string(),
            kbit: self.rate_kbit,
            was,
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let tap = world.tap(&self.host, &self.network).await?;
        let hostnet = &world.drivers.hostnet;
        let limit = Bandwidth::Limited {
            kbit: self.rate_kbit,
        };
        Ok(hostnet.links.set_bandwidth(&tap, &limit).await?)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let tap = world.tap(&self.host, &self.network).await?;
        let now = world.drivers.hostnet.links.bandwidth(&tap).await?;
        let seen = format!("{tap} lets {} through", words(&now));
        let limit = Bandwidth::Limited {
            kbit: self.rate_kbit,
        };
        Ok(Effectiveness::new(now == limit, seen))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.network)
    }

    fn describe(&self) -> String {
        format!(
            "lets {} of {} through to {} again",
            words(&self.was),
            self.network,
            self.host
        )
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self {
            host,
            network,
            kbit,
            was,
        } = self;
        // The limit is on the end that a running host has here, and goes with it.
        let power = power_state(world, host).await?;
        let taps = if power == Power::ShutOff || power == Power::Crashed {
            Vec::new()
        } else {
            let target = world.target(host)?;
            world
                .drivers
                .hypervisor
                .inspection
                .anatomy(target)
                .await?
                .taps
        };
        let mac = world.mac(host, network)?;
        let Some((_, tap)) = taps.into_iter().find(|(of, _)| *of == mac) else {
            return Ok(format!(
                "{host} is not plugged into {network}, and has no limit when it is"
            ));
        };
        let hostnet = &world.drivers.hostnet;
        // A host that was started meanwhile has a new end, with another's rule perhaps.
        let limit = Bandwidth::Limited { kbit: *kbit };
        if hostnet.links.bandwidth(&tap).await? == limit {
            hostnet.links.set_bandwidth(&tap, was).await?;
        }
        let now = hostnet.links.bandwidth(&tap).await?;
        if now == limit && *was != limit {
            return Err(FaultError::Target(format!(
                "{tap} lets {} through still",
                words(&now)
            )));
        }
        Ok(format!(
            "{} of {network} comes through to {host} again",
            words(&now)
        ))
    }
}
