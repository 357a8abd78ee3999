//! Processes inside a host that are a load on it, for [`memory-pressure`](super::memory_pressure) and
//! [`cpu-pressure`](super::cpu_pressure).

use super::inside;
use crate::scenario::fault::prelude::*;

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(300);

/// Processes that are killed are gone within this.
const GONE: Duration = Duration::from_secs(10);

/// There are no such processes before the fault.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    host: String,
    /// The name of the processes, which nothing else has.
    pub(super) process: String,
}

/// Processes of one name.
pub(super) struct Running {
    pub(super) count: u32,
    pub(super) kib: u64,
}

pub(super) fn footprint(host: &str) -> Footprint {
    Footprint::of_host(host).sets(&[MEMORY, "pressure"])
}

impl Load {
    pub(super) async fn of(world: &World, host: &str) -> Result<Self, FaultError> {
        world.state(host).await?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            host: host.to_owned(),
            process: format!("load-{}", &id[..8]),
        })
    }

    /// How many processes of this name there are, and the KiB that they hold.
    async fn running(&self, world: &World) -> Result<Running, FaultError> {
        let script = "n=0; k=0; for d in /proc/[0-9]*; do [ \"$(cat $d/comm 2>/dev/null)\" = \"$1\" ] || continue; \
            r=$(sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' $d/status 2>/dev/null); [ -n \"$r\" ] || continue; \
            n=$((n + 1)); k=$((k + r)); done; echo $n $k";
        let argv = ["sh", "-ec", script, "sh", &self.process];
        let said = inside::run(world, &self.host, &argv).await?;
        let mut numbers = said.split_whitespace();
        let mut next = || numbers.next().and_then(|word| word.parse::<u64>().ok());
        let (count, kib) = (next().unwrap_or(0), next().unwrap_or(0));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Running { count, kib })
    }

    /// Whether they do what they are for.
    pub(super) async fn effectiveness(
        &self,
        world: &World,
        effective: impl Fn(&Running) -> bool,
    ) -> Result<Effectiveness, FaultError> {
        let Self { host, process } = self;
        let now = self.running(world).await?;
        let Running { count, kib } = now;
        let seen = format!("{count} processes {process} on {host} hold {kib} KiB");
        Ok(Effectiveness::new(effective(&now), seen))
    }

    /// Starts them by a script, and waits until they do what they are for.
    pub(super) async fn start(
        &self,
        world: &World,
        script: &str,
        within: Duration,
        effective: impl Fn(&Running) -> bool,
    ) -> Result<(), FaultError> {
        inside::script(world, &self.host, script).await?;
        let clock = &world.drivers.clock;
        let until = clock.elapsed() + within;
        loop {
            let verified = self.effectiveness(world, &effective).await?;
            if verified.effective {
                return Ok(());
            }
            if clock.elapsed() >= until {
                let last = verified.seen;
                return Err(FaultError::Deadline { last });
            }
            clock.sleep(LOOK).await;
        }
    }
}

impl Prior for Load {
    fn footprint(&self) -> Footprint {
        footprint(&self.host)
    }

    fn describe(&self) -> String {
        format!("kills the processes {} on {}", self.process, self.host)
    }

    async fn revert(&self, world: &World) -> Result<String, FaultError> {
        let Self { host, process } = self;
        let script = "for d in /proc/[0-9]*; do [ \"$(cat $d/comm 2>/dev/null)\" = \"$1\" ] && kill -KILL ${d#/proc/} 2>/dev/null || :; done; rm -f /run/$1";
        let clock = &world.drivers.clock;
        let until = clock.elapsed() + GONE;
        loop {
            inside::run(world, host, &["sh", "-ec", script, "sh", process]).await?;
            let count = self.running(world).await?.count;
            if count == 0 {
                return Ok(format!("no process {process} on {host} any more"));
            }
            if clock.elapsed() >= until {
                let still = format!("{count} processes {process} are still on {host}");
                return Err(FaultError::Target(still));
            }
            clock.sleep(LOOK).await;
        }
    }
}
