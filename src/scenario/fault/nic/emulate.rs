//! `net-emulate`: delay, loss, corruption and a rate on one of a host's interfaces, by netem inside the guest.

use crate::hostnet::HANDLE;
use crate::scenario::arguments::{Percent, Period};
use crate::scenario::fault::guest::inside;
use crate::scenario::fault::prelude::*;

/// The handle of a discipline that the kernel gave an interface by itself; any other is another program's, and left alone.
const OF_THE_KERNEL: &str = "0:";

/// Delays, loses and corrupts packets on an interface, and limits its rate, by netem inside the host.
///
/// Revert: the kernel's own discipline; another's is never touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NetEmulate {
    host: Name,
    /// The interface, as the host calls it.
    nic: Name,
    delay: Option<Period>,
    /// Of the packets.
    loss: Option<Percent>,
    /// Of the packets.
    corrupt: Option<Percent>,
    /// Bits a second, in thousands.
    rate_kbit: Option<u64>,
}

/// What is before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Before {
    host: String,
    nic: String,
    /// The handle of the one that is made; an older twin had none of its own.
    #[serde(default)]
    handle: Option<String>,
}

fn footprint(host: &str, nic: &str) -> Footprint {
    Footprint::of_host(host)
        .owns(&[MEMORY, "net", "qdisc", nic])
        .reads(PLUGGED)
}

/// The root disciplines of an interface, as tc names them.
async fn disciplines(world: &World, host: &str, nic: &str) -> Result<Vec<Discipline>, FaultError> {
    let argv = ["tc", "-j", "qdisc", "show", "dev", nic];
    let said = inside::run(world, host, &argv).await?;
    Ok(serde_json::from_str(&said)?)
}

/// Refuses where an interface has another root discipline than the kernel's or twin's.
pub(crate) async fn none_by_hand(world: &World, host: &str, nic: &str) -> Result<(), FaultError> {
    none_but(&[OF_THE_KERNEL, HANDLE], world, host, nic).await
}

async fn none_but(
    handles: &[&str],
    world: &World,
    host: &str,
    nic: &str,
) -> Result<(), FaultError> {
    let found = disciplines(world, host, nic).await?;
    let other = |one: &&Discipline| one.root && !handles.contains(&one.handle.as_str());
    let Some(other) = found.iter().find(other) else {
        return Ok(());
    };
    Err(FaultError::Target(format!(
        "{nic} of {host} has a discipline already, {}, which is left alone",
        other.kind
    )))
}

#[derive(Deserialize)]
struct Discipline {
    kind: String,
    handle: String,
    #[serde(default)]
    root: bool,
    #[serde(default)]
    options: serde_json::Value,
}

impl NetEmulate {
    fn delay(&self) -> Duration {
        self.delay.unwrap_or_default().duration()
    }

    fn loss(&self) -> f64 {
        self.loss.unwrap_or_default().0
    }

    fn corrupt(&self) -> f64 {
        self.corrupt.unwrap_or_default().0
    }

    /// Whether a discipline does what was asked for.
    fn is_it(&self, found: &Discipline) -> bool {
        // tc tells shares as fractions, and delays in seconds.
        let number = |pointer: &str| {
            found
                .options
                .pointer(pointer)
                .and_then(serde_json::Value::as_f64)
        };
        let near = |pointer: &str, wanted: f64| {
            (number(pointer).unwrap_or_default() - wanted).abs() < 0.001
        };
        found.kind == "netem"
            && found.handle == HANDLE
            && near("/delay/delay", self.delay().as_secs_f64())
            && near("/loss-random/loss", self.loss() / 100.0)
            && near("/corrupt/corrupt", self.corrupt() / 100.0)
            && self.rate_kbit.is_none_or(|kbit| {
                // In bytes a second.
                found
                    .options
                    .pointer("/rate/rate")
                    .and_then(serde_json::Value::as_u64)
                    == Some(kbit * 1000 / 8)
            })
    }
}

impl Fault for NetEmulate {
    const NAME: &'static str = "net-emulate";
    type Prior = Before;

    fn check(&self) -> Result<(), Mistake> {
        self.delay.map_or(Ok(()), |delay| delay.check("delay"))?;
        let shares = self.loss.or(self.corrupt).is_some();
        if self.delay.is_some() || shares || self.rate_kbit.is_some() {
            return Ok(());
        }
        let why = "it emulates a delay, loss, corrupt, rate-kbit, or several of them";
        Err(Mistake::of_all("nothing", "emulation", why))
    }

    fn describe(&self) -> String {
        let rate = self.rate_kbit;
        let rate = rate.map_or_else(String::new, |kbit| format!(", {kbit} kbit a second"));
        format!(
            "on {} of {}: delay {:?}, lose {} %, corrupt {} %{rate}",
            self.nic,
            self.host,
            self.delay(),
            self.loss(),
            self.corrupt()
        )
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.nic)
    }

    async fn capture(&self, world: &World) -> Result<Before, FaultError> {
        none_but(&[OF_THE_KERNEL], world, &self.host, &self.nic).await?;
        Ok(Before {
            host: self.host.to_string(),
            nic: self.nic.to_string(),
            handle: Some(HANDLE.into()),
        })
    }

    async fn inject(&self, world: &World, _: &Before, _: Duration) -> Result<(), FaultError> {
        let delay = format!("{}us", self.delay().as_micros());
        let (loss, corrupt) = (format!("{}%", self.loss()), format!("{}%", self.corrupt()));
        let rate = self.rate_kbit.map(|kbit| format!("{kbit}kbit"));
        let mut argv = vec![
            "tc", "qdisc", "replace", "dev", &self.nic, "root", "handle", HANDLE, "netem", "delay",
            &delay, "loss", &loss, "corrupt", &corrupt,
        ];
        argv.extend(rate.iter().flat_map(|rate| ["rate", rate.as_str()]));
        inside::run(world, &self.host, &argv).await.map(drop)
    }

    async fn verify(&self, world: &World, _: &Before) -> Result<Effectiveness, FaultError> {
        let found = disciplines(world, &self.host, &self.nic).await?;
        let kinds: Vec<&str> = found.iter().map(|one| one.kind.as_str()).collect();
        let seen = format!(
            "tc shows on {} of {}: {}",
            self.nic,
            self.host,
            kinds.join(", ")
        );
        Ok(Effectiveness::new(
            found.iter().any(|one| self.is_it(one)),
            seen,
        ))
    }
}

impl Prior for Before {
    fn footprint(&self) -> Footprint {
        footprint(&self.host, &self.nic)
    }

    fn describe(&self) -> String {
        format!("removes twin's netem from {} of {}", self.nic, self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, nic, handle } = self;
        let ours = |one: &Discipline| {
            let mut handle = handle.iter();
            one.kind == "netem" && handle.all(|handle| *handle == one.handle)
        };
        let emulated = |found: &[Discipline]| found.iter().any(ours);
        if emulated(&disciplines(world, host, nic).await?) {
            inside::run(world, host, &["tc", "qdisc", "del", "dev", nic, "root"]).await?;
        }
        if emulated(&disciplines(world, host, nic).await?) {
            return Err(FaultError::Target(format!(
                "{nic} of {host} still has twin's netem"
            )));
        }
        Ok(format!("{nic} of {host} has no discipline of twin's"))
    }
}
